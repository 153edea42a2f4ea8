"""Should you route at all? Answered from graded data, or from records with feedback."""
