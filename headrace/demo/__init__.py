"""The demo: a simulated shop in the terminal."""
