"""Flows that balance exactly, learned from a few noisy meters: see ``__main__``."""
