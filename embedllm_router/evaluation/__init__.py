"""Metrics and baselines: how good predictions are. It knows nothing of how they were made."""
