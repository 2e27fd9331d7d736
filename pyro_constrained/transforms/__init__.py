"""Transforms onto the supports of constrained laws."""

from pyro_constrained.transforms.linear_equality import LinearEqualityTransform

__all__ = ["LinearEqualityTransform"]
