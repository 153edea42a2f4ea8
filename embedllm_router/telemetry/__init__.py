"""What the plugin emits: log events, records, spans and Prometheus series."""
