"""Readers of published correctness data, one file per format: a file in, checked answers and rejected rows out."""
