"""Asks a user's own deployments and learns from their answers."""
