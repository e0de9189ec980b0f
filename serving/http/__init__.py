"""HTTP API: routes, errors and documentation."""
