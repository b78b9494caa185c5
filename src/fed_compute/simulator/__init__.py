"""Many virtual clients on one machine: who attacks, and what the product's own rules make of it."""
