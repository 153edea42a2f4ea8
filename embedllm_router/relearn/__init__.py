"""Learning from feedback: LLM embeddings, biases and calibration of an artifact, updated; its prompt network is not."""
