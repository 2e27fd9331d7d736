"""Diffusion models of images whose block sums are given."""
