"""Decides recorded requests again, offline: other objectives, other weights, other prices."""
