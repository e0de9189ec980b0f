"""Catalog over HTTP: pages, and changes of fields."""
