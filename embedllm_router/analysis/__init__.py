"""Questions to records: summary, explanation, replay, plan."""
