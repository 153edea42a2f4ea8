"""Correctness data: formats, the matrix, splits."""
