"""Rules of slates: caps, pins, boosts and hidden items, per surface and per request."""
