"""Programs for whoever works on the repository. Nothing here is installed."""
