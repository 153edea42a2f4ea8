"""LiteLLM's side: the hooks, the request context, deployments, fallbacks."""
