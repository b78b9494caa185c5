"""What happens next: pure decisions over records. No clock, no disk, no network."""
