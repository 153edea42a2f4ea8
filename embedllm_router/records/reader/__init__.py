"""Reads records, wherever they lie."""
