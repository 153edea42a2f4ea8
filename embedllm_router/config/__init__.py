"""Settings: each with its default and meaning, read from LiteLLM's configuration and the environment."""
