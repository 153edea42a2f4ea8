"""The demonstration: the real proxy, the real SDK, and a server that stands in for the paid LLMs."""
