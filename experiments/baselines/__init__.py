"""The usual cures for a broken law, written once for all experiments of a framework."""
