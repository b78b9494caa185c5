"""The components joined: accept an update, assign work, aggregate, keep score."""
