"""Scientific applications of the constrained laws beside their usual cures; see README.md."""
