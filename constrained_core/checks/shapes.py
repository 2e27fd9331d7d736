"""Shapes of parameters, of both sides of ``A x = k``, and of values."""

from collections.abc import Mapping, Sequence
from typing import Any

from constrained_core.errors import ConstraintError
from constrained_core.inputs import refuse_complex

__all__ = [
    "broadcast_shapes",
    "check_columns",
    "check_coordinates",
    "check_exact_shapes",
    "check_factor_shape",
    "check_matrix_shape",
    "check_shapes",
    "check_value",
    "common_batch_shape",
    "event_shape_of",
    "inferred_shapes",
    "require_categories",
]

Shape = tuple[int, ...]


def broadcast_shapes(*shapes: Sequence[int]) -> Shape:
    """The common shape, at once where all are equal; ``ValueError`` where there is none.

    Sizes need be no numbers: those of ``jax.export`` may be symbols.
    """
    first, *others = map(tuple, shapes)
    if all(shape == first for shape in others):
        return first
    return tuple(map(_common_size, *_from_the_right(first, *others)))


def _from_the_right(*shapes: Shape) -> list[Shape]:
    ndim = max(map(len, shapes))
    return [(1,) * (ndim - len(shape)) + shape for shape in shapes]


def _common_size(*sizes: int) -> int:
    wide = [size for size in sizes if size != 1]
    if any(size != wide[0] for size in wide):
        raise ValueError(f"sizes {sizes} do not broadcast together")
    return wide[0] if wide else 1


def check_matrix_shape(matrix_shape: Sequence[int]) -> None:
    """Raise where A is a number."""
    if len(matrix_shape) == 0:
        raise ConstraintError(
            "A: expected shape (*batch, m, n), or (n,) for one row, got a scalar; give one "
            "coefficient per variable."
        )


def check_shapes(matrix_shape: Sequence[int], k_shape: Sequence[int]) -> None:
    """Raise unless A ``(*batch, m, n)`` and k ``(*batch, m)`` fit; A ``(n,)`` takes any k."""
    check_matrix_shape(matrix_shape)
    _require_variables(matrix_shape)
    if len(matrix_shape) == 1:
        return
    _check_sides(matrix_shape[-2], k_shape, k_shape)
    batches = tuple(matrix_shape[:-2]), tuple(k_shape[:-1])
    try:
        broadcast_shapes(*batches)
    except ValueError as error:
        raise ConstraintError(
            f"expected batch shapes of A and k that broadcast together, got {batches[0]} and "
            f"{batches[1]}; reshape one."
        ) from error


def check_exact_shapes(matrix_shape: Sequence[int], k_shape: Sequence[int]) -> None:
    """Raise unless A is ``(m, n)`` with k ``(*batch, m)``, or ``(n,)`` with k ``(*batch,)``."""
    if len(matrix_shape) not in (1, 2):
        raise ConstraintError(
            "A: expected shape (m, n), or (n,) for one row, for a discrete law, got "
            f"{tuple(matrix_shape)}; a batch of matrices needs a law for each, as their fibers "
            "differ."
        )
    _require_variables(matrix_shape)
    is_vector = len(matrix_shape) == 1
    rows = (*k_shape, 1) if is_vector else k_shape
    _check_sides(1 if is_vector else matrix_shape[0], rows, k_shape)


def _require_variables(matrix_shape: Sequence[int]) -> None:
    if matrix_shape[-1] == 0:
        raise ConstraintError(
            f"A: expected at least one variable, got shape {tuple(matrix_shape)}; a column of A "
            "stands for each."
        )


def _check_sides(num_rows: int, rows: Sequence[int], k_shape: Sequence[int]) -> None:
    if len(rows) == 0 or rows[-1] != num_rows:
        raise ConstraintError(
            f"k: expected shape (*batch, {num_rows}) for the {num_rows} rows of A, got "
            f"{tuple(k_shape)}; give one value per row."
        )


def event_shape_of(
    name: str, shape: Sequence[int], event_shape: Sequence[int], stretch: bool = True
) -> Shape:
    """The shape to which a parameter is broadcast so that it ends in ``event_shape``.

    A number stands for all entries of a vector; where ``stretch``, a last dimension of 1 stands
    for all variables.

    Raises:
        ConstraintError: it does not end so.
    """
    shape, event = tuple(shape), tuple(event_shape)
    size = len(event)
    if len(shape) >= size and shape[len(shape) - size :] == event:
        return shape
    is_number = len(shape) == 0 and size == 1
    if is_number or (stretch and shape[-size:] == (1, *event[1:])):
        return shape[:-size] + event
    wanted = ", ".join(map(str, event))
    raise ConstraintError(
        f"{name}: expected shape (*batch, {wanted}) for the {event[0]} variables of A, got "
        f"{shape}; the last dimensions must match the columns of A."
    )


def require_categories(name: str, shape: Sequence[int]) -> None:
    """Raise unless a shape can be ``(*batch, n, C)``."""
    if len(shape) < 2 or shape[-1] == 0:
        raise ConstraintError(
            f"{name}: expected shape (*batch, n, C) for C categories of each variable, got "
            f"{tuple(shape)}; give one row of categories per variable."
        )


def check_factor_shape(shape: Sequence[int], num_variables: int) -> None:
    """Raise unless a covariance factor is ``(*batch, n, q)``."""
    if len(shape) < 2 or shape[-2] != num_variables:
        raise ConstraintError(
            f"cov_factor: expected shape (*batch, {num_variables}, q) for the {num_variables} "
            f"variables of A, got {tuple(shape)}; give one column per factor."
        )


def common_batch_shape(**batch_shapes: Sequence[int]) -> Shape:
    """The common batch shape of what is named.

    Raises:
        ConstraintError: there is none.
    """
    try:
        return broadcast_shapes(*batch_shapes.values())
    except ValueError as error:
        given = ", ".join(f"{name} {tuple(shape)}" for name, shape in batch_shapes.items())
        raise ConstraintError(
            f"expected batch shapes that broadcast together, got {given}; reshape a parameter."
        ) from error


def inferred_shapes(
    shapes: Mapping[str, Sequence[int]], event_dims: Mapping[str, int]
) -> tuple[Shape, Shape]:
    """Batch and event shape of a law from the shapes of its arguments, by name.

    Args:
        shapes: of A, k and the parameters that are given.
        event_dims: of the parameters.
    """
    is_vector = len(shapes["A"]) == 1
    own = {"k": int(not is_vector), "A": 2 - is_vector, **event_dims}
    batches = [tuple(shape)[: max(0, len(shape) - own[name])] for name, shape in shapes.items()]
    return broadcast_shapes(*batches), tuple(shapes["A"])[-1:]


def check_value(value: Any, kind: Any, num_variables: int, batch_shape: Sequence[int]) -> None:
    """Raise unless a value is real, ``(*batch, n)``, with a batch that fits.

    Args:
        kind: class of the arrays of the framework.

    Raises:
        ConstraintError: it is not.
    """
    shape = value.shape if isinstance(value, kind) else None
    if not shape or shape[-1] != num_variables:
        got = type(value).__name__ if shape is None else tuple(shape)
        raise ConstraintError(f"value: expected shape (*batch, {num_variables}), got {got}.")
    if "complex" in str(value.dtype):
        refuse_complex("value", value.dtype)
    try:
        broadcast_shapes(shape[:-1], batch_shape)
    except ValueError as error:
        raise ConstraintError(
            f"value: expected a batch shape that broadcasts with {tuple(batch_shape)}, got "
            f"{tuple(shape[:-1])}."
        ) from error


def check_coordinates(shape: Sequence[int], size: Any) -> None:
    """Raise unless a value of the transform is ``(*batch, size)``."""
    if len(shape) == 0 or shape[-1] != size:
        raise ConstraintError(
            f"LinearEqualityTransform: expected shape (*batch, {size}), got {tuple(shape)}; a "
            "point x has n entries, its coordinates, as which MCMC takes initial values, n - r: "
            "transform.inv(x)."
        )


def check_columns(name: str, shape: Sequence[int], num_variables: int) -> None:
    """Raise unless a matrix has a column for each variable."""
    if shape[-1] != num_variables:
        raise ConstraintError(
            f"{name}: expected {num_variables} columns, as A has, got shape {tuple(shape)}; give "
            "one for each variable."
        )
