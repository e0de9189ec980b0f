"""Headrace: a recommender that learns while it serves."""
