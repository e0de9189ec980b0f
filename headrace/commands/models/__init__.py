"""`headrace models`: list, compare and roll back versions; pause and resume training."""
