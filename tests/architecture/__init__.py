"""The house rules of CONTRIBUTING.md as tests. Each checker is also shown a small violation."""
