"""Records of requests and feedback: their schema, the writer, the reader."""
