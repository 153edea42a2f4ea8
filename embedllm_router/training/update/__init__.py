"""Updates the LLM rows of existing weights from feedback; the prompt network stays as it is."""
