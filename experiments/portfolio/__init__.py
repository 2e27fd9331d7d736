"""Portfolios within a budget and sector-neutral, from constrained normal laws."""
