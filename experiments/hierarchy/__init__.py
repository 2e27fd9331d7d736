"""Forecasts of tourism that add up, as a conditional law: see ``__main__``."""
