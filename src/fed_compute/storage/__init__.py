"""Keep records and blobs: SQL rows, the journal, content-addressed files."""
