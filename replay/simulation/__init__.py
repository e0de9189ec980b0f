"""Simulate a shop, its shoppers and attacks with known ground truth."""
