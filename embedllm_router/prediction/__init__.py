"""From text to p_correct, expected output tokens and an out-of-distribution score."""
