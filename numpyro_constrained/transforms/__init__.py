"""Transforms onto the supports of constrained laws."""

from numpyro_constrained.transforms.linear_equality import LinearEqualityTransform

__all__ = ["LinearEqualityTransform"]
