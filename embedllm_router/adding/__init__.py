"""A new LLM for weights that exist, from a few of its answers: the decoder stays frozen, one row is added to it."""
