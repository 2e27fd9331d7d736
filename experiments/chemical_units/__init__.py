"""Surrogates of chemical process units whose mass balances hold exactly."""
