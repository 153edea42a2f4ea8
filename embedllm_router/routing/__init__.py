"""From a request and predictions to a decision. No files, no network, no LiteLLM."""
