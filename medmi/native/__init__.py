"""Loops over voxels and points in C. They have no docstrings of their own: the modules named ``*_cpu`` say what each does and call it."""
