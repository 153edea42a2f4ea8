"""Trains weights from correctness data."""
