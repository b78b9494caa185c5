"""Arrays in, arrays out: aggregation, server optimisers, clipping, error feedback. No clock, disk or network."""
