"""Faults of real processes: `python -m tests.fault.campaign` runs them by the hundred, the tests beside run a few."""
