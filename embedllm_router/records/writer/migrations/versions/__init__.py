"""One script per change of the tables, each after the one it names."""
