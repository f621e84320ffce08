"""Optimizers by name: the library's own (``registry``), and anyone's class or spec (``foreign``) with its version."""
