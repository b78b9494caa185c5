"""Sweeps: keys and values, checks before any run, the comparison, and what is left when something fails."""
