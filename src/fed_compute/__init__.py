"""Open federated learning on volunteer and edge machines."""
