"""Measures predictions and routing on correctness data."""
