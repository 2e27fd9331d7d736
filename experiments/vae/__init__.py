"""Variational autoencoders of images whose sums are given."""
