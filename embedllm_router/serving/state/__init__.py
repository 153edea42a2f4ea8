"""State that proxies share: sums such as spend, and short-lived entries such as who answers a session."""
