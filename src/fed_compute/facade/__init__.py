"""The Python API: a coordinator and clients inside a program or a notebook."""
