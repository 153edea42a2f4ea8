"""From data to weights. Nothing in here is imported on the request path."""
