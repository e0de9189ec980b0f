"""User state: profiles, the kernels that update them, and rate limits."""
