"""Answer the most frequent requests before the web framework."""
