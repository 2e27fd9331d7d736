"""Fine images from noisy readings of their block sums."""
