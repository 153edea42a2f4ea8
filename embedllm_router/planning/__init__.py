"""Which cost weight or floor to set, worked out from recorded traffic."""
