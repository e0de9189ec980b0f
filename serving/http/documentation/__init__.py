"""OpenAPI document and its page, built from the contracts of the routes."""
