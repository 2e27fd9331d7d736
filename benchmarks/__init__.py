"""Ratios of cost against the frameworks' own laws; run with ``make bench``."""
