"""Forecasts of a retailer's whole hierarchy that add up: see ``__main__``."""
