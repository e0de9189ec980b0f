"""Quality: recorded logs, exploration and policies."""
