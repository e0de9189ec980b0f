"""Client for the library kafka-python, with patches for its speed and for a lost join."""
