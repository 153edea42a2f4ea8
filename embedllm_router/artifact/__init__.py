"""The weights folder: read, checked, written, derived from another."""
