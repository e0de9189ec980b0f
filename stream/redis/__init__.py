"""User store on Redis and Redis Cluster."""
