"""Reading the records of routed requests: query, filter, summarise, follow, explain, export."""
