"""Pages for people: what the coordinator does, live, and what an operator may do about it."""
