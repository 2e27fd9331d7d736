"""Photon counts whose totals the detector knows, from constrained Poisson laws."""
