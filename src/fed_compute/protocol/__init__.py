"""What crosses the wire: messages, job file, parameter schemas, tensor encodings, digests."""
