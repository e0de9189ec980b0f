"""A simulated shop in the terminal."""
