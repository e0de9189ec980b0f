"""Run the live code on recorded or simulated data."""
