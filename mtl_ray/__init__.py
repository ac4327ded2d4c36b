"""Distributed training of multi-task recommenders that solve the cold-start problem."""

__version__ = "0.1.0"
