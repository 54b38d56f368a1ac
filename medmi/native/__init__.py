"""Loops over voxels and points in C. They have no docstrings of their own: the module that calls one says what it does."""
