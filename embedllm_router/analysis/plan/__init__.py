"""Works out from recorded traffic which cost weight or floor to set."""
