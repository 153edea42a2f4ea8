"""What lives across requests: configuration and weights, sessions, budgets, shared state."""
