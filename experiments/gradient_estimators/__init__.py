"""Bias, variance and error of gradients through constrained draws: see ``__main__``."""
