"""Retrievers: each finds candidate items for queries in its own way."""
