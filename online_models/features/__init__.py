"""Features of candidates: one row of numbers for each query and candidate."""
