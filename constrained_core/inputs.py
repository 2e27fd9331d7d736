"""What users give as a matrix or a vector, as arrays."""

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from scipy import sparse

from constrained_core.errors import ConstraintError

__all__ = ["READERS", "native", "on_host", "read_array", "refuse_complex", "refuse_sparse"]

READERS: dict[type, Callable[[Any], Any]] = {}
"""How values of a framework become arrays, or matrices of SciPy, where NumPy cannot read them by
itself, as inside of ``torch.func``."""


def on_host(value: Any) -> Any:
    """A tensor, also on an accelerator, where NumPy can read it; anything else as it is."""
    if isinstance(value, np.ndarray):  # an array inside of a compiled step has more attributes
        return value
    for kind, read in READERS.items():
        if isinstance(value, kind):
            return read(value)
    copy = getattr(value, "cpu", None)  # of PyTorch; NumPy reads JAX's arrays wherever they are
    return copy() if callable(copy) else value


def read_array(name: str, value: Any) -> np.ndarray:
    """A copy of ``value`` as an array of numbers: lists, arrays, data frames.

    It is ``native``, as the arrays of frameworks are.

    Raises:
        ConstraintError: a sparse matrix, masked entries, complex numbers, or no numbers at all.
    """
    if sparse.issparse(value):
        refuse_sparse(name, type(value).__name__)
    if np.ma.is_masked(value):
        raise ConstraintError(
            f"{name}: expected numbers everywhere, got a masked array with "
            f"{np.ma.count_masked(value)} entries masked; fill them, or leave them out."
        )
    try:
        array = np.array(np.asarray(on_host(value)))  # a copy, which tensors cannot be asked for
    except (TypeError, ValueError) as error:
        raise ConstraintError(
            f"{name}: expected an array of numbers, got {type(value).__name__}; convert it."
        ) from error
    if array.dtype.kind == "c":
        refuse_complex(name, array.dtype)
    if array.dtype.kind not in "fiub":
        raise ConstraintError(
            f"{name}: expected an array of numbers, got {type(value).__name__} of dtype "
            f"{array.dtype}; convert it."
        )
    return native(array)


def native(array: np.ndarray) -> np.ndarray:
    """The array in the byte order of this machine, and in double precision where it had more."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        with np.errstate(over="ignore"):  # infinite, which is told by name
            return array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def refuse_complex(name: str, dtype: Any) -> NoReturn:
    """Raise for complex numbers, whose imaginary parts would be lost."""
    raise ConstraintError(
        f"{name}: expected real numbers, got {dtype}; write real and imaginary parts as rows of "
        "their own."
    )


def refuse_sparse(name: str, kind: str) -> NoReturn:
    """Raise for a sparse matrix, by name."""
    raise ConstraintError(
        f"{name}: expected a dense array, got a sparse one ({kind}); pass its dense form. Only "
        "A, and the precision matrix of ConstrainedGMRF, can be sparse."
    )
