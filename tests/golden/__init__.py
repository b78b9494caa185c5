"""Recorded bytes of the wire. What was once sent must be readable for ever."""
