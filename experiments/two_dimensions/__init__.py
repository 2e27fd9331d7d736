"""What the cures for a broken law do to a law of two variables, beside the conditional law."""
