"""The crew of a Ray cluster: trains a simulation's clients on many machines, with the bytes of one."""
