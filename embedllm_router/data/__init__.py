"""Correctness data: read, hold, split. It knows nothing of encoders or decoders."""
