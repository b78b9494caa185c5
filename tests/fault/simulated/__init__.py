"""A world in one process: the real coordinator on a simulated machine, disk and network, all from one seed."""
