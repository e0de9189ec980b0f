"""Filter items by their catalog fields: language, columns, matching."""
