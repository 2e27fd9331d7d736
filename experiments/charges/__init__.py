"""Partial charges of crystals that sum to zero, exactly."""
