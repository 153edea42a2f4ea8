"""Adds an LLM to existing weights from a few of its answers; the decoder stays frozen."""
