"""Disease mapping with an intrinsic field that sums to zero: see ``__main__``."""
