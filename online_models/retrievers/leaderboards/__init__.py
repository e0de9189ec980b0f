"""Retrievers that offer all queries the same items, from leaderboards."""
