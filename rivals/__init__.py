"""What others do, written once for benchmarks, experiments and tutorials.

Cures for a broken law, relaxations and estimators of exactly-k subsets, recursions by hand.
"""
