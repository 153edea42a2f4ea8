"""Writes records to files that rotate, or to PostgreSQL. Writing never blocks a request."""
