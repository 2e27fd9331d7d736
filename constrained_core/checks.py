"""What is asked of arguments, and what errors say: shapes, names and words, the same in both
backends. Whether the entries of a tensor are as they should be, each backend sees for itself.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from constrained_core.errors import ConstraintError, InfeasibleConstraintError
from constrained_core.groups import GroupSum

__all__ = [
    "FINITE",
    "INDEPENDENT_ROWS",
    "LOG_ODDS",
    "LOWER_TRIANGULAR",
    "NONNEGATIVE",
    "POSITIVE",
    "POSSIBLE_CATEGORY",
    "PROBABILITY",
    "STALE_SUPPORT",
    "SYMMETRIC",
    "Requirement",
    "broadcast_shapes",
    "check_basis",
    "check_columns",
    "check_coordinates",
    "check_estimator",
    "check_exact_shapes",
    "check_factor_shape",
    "check_per_group",
    "check_shapes",
    "check_site",
    "check_value_shape",
    "common_batch_shape",
    "different_supports",
    "event_shape_of",
    "exactly_one",
    "inferred_shapes",
    "infinite_matrix",
    "infinite_sides",
    "mostly_zeros",
    "no_draws",
    "no_factor",
    "no_joint_base",
    "no_reparametrised_draw",
    "no_sampler",
    "off_fiber",
    "off_subspace",
    "require_both_sides",
    "require_categories",
    "row_disagrees",
    "several_sides",
    "unbounded_variable",
    "unknown_base",
    "violation",
]

Shape = tuple[int, ...]

STALE_SUPPORT = (
    "If A or k is itself sampled or learned, or changes with the minibatch: autoguides and MCMC "
    "keep the subspace that they saw first; use reparam.auto_reparam."
)


# Entries


class Requirement(NamedTuple):
    """What the entries of a parameter must be, and what to do where they are not."""

    expected: str
    remedy: str


FINITE = Requirement("finite values", "check how it is computed")
POSITIVE = Requirement("positive finite values", "use exp or softplus to make it so")
NONNEGATIVE = Requirement("nonnegative finite values", "use exp or softplus to make it so")
PROBABILITY = Requirement("probabilities in [0, 1]", "use sigmoid, or give logits instead")
LOG_ODDS = Requirement("log odds or log probabilities", "check for NaN")
POSSIBLE_CATEGORY = Requirement(
    "a category that is possible in every row", "raise a logit above -inf"
)
SYMMETRIC = Requirement("a symmetric matrix", "use (S + S.mT) / 2")
LOWER_TRIANGULAR = Requirement("a lower triangular matrix", "use tril or a Cholesky factor")
INDEPENDENT_ROWS = Requirement(
    "scales under which the rows of A x are independent in the digits of the dtype",
    "check for scales that are zero, infinite or many orders of magnitude apart, or use float64",
)


def violation(name: str, requirement: Requirement, values: np.ndarray, holds: np.ndarray) -> str:
    """The message about the first entry, or matrix, of ``values`` where ``holds`` is false."""
    where = tuple(int(i) for i in np.argwhere(~holds)[0])
    found = values[where]
    got = f"{float(found):.6g}" if found.ndim == 0 else f"a matrix of shape {found.shape}"
    at = f" at {where}" if where else ""
    return f"{name}: expected {requirement.expected}, got {got}{at}; {requirement.remedy}."


def no_factor(requirement: Requirement, shape: Iterable[int], dtype: Any) -> str:
    """The message about a matrix that is not positive definite."""
    return (
        f"expected {requirement.expected}, got a matrix of shape {tuple(shape)} and dtype {dtype} "
        f"without a Cholesky factor; {requirement.remedy}."
    )


# Names


def exactly_one(**parameters: Any) -> tuple[str, Any]:
    """The name and value of the one parameter that is not None.

    Raises:
        ConstraintError: there is none, or more than one.
    """
    given = [(name, value) for name, value in parameters.items() if value is not None]
    if len(given) != 1:
        names = ", ".join(name for name, _ in given) or "none"
        raise ConstraintError(f"expected exactly one of {', '.join(parameters)}, got {names}.")
    return given[0]


def check_estimator(name: str, allowed: Collection[str]) -> str:
    """Return ``name`` if it is one of ``allowed``.

    Raises:
        ConstraintError: it is not.
    """
    if name not in allowed:
        raise ConstraintError(
            f"gradient_estimator: expected one of {', '.join(allowed)}, got {name!r}."
        )
    return name


def check_site(who: str, wanted: str, name: str, law: Any, fits: bool, is_observed: bool) -> None:
    """Raise where a reparametrisation is not for a site.

    Args:
        who: the reparametrisation.
        wanted: in words, the laws that it is for.
        name: the site.
        law: of the site.
        fits: whether the law is one of these.
        is_observed: whether the site is.
    """
    if not fits:
        raise ConstraintError(
            f"{who}: expected {wanted} at site {name!r}, got {type(law).__name__}; leave that "
            "site out of the config."
        )
    if is_observed:
        raise ConstraintError(
            f"{who}: expected a latent site, got the observed site {name!r}; observed sites need "
            "no reparametrisation."
        )


def unknown_base(known: Iterable[tuple[type, int]], base: Any, event_shape: Any) -> ConstraintError:
    """The error of ``constrain``, from the classes that are known, with ``to_event``."""
    names = ", ".join(cls.__name__ + (f"(...).to_event({n})" if n else "") for cls, n in known)
    return ConstraintError(
        f"constrain: expected one of {names}, got {type(base).__name__} with event shape "
        f"{event_shape}; use to_event(1) for independent variables, or register the law with "
        "constrain.register."
    )


def check_per_group(per_group: bool, A: Any, parameter: str) -> None:
    """Raise where a law for each group is asked for and there are no groups, or no ``scale``."""
    if per_group and not (isinstance(A, GroupSum) and parameter == "scale"):
        raise ConstraintError(
            "per_group: expected A to be a GroupSum and the parameter scale, got "
            f"{type(A).__name__} and {parameter}; give A as a GroupSum and L = diag(scale), or a "
            "law for each batch element."
        )


# Shapes


def broadcast_shapes(*shapes: Sequence[int]) -> Shape:
    """The common shape, at once where all are equal; ``ValueError`` where there is none."""
    first, *others = map(tuple, shapes)
    if all(shape == first for shape in others):
        return first
    return np.broadcast_shapes(first, *others)


def require_both_sides(A: Any, k: Any) -> None:
    """Raise where one side of ``A x = k`` is missing."""
    if A is None or k is None:
        missing = " and ".join(name for name, part in (("A", A), ("k", k)) if part is None)
        raise ConstraintError(f"expected A and k, got no {missing}; give both sides of A x = k.")


def check_shapes(matrix_shape: Sequence[int], k_shape: Sequence[int]) -> None:
    """Raise unless A ``(*batch, m, n)`` and k ``(*batch, m)`` fit; A ``(n,)`` takes any k."""
    if len(matrix_shape) == 0:
        raise ConstraintError(
            "A: expected shape (*batch, m, n), or (n,) for one row, got a scalar; give one "
            "coefficient per variable."
        )
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
    is_vector = len(matrix_shape) == 1
    rows = (*k_shape, 1) if is_vector else k_shape
    _check_sides(1 if is_vector else matrix_shape[0], rows, k_shape)


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


def check_value_shape(
    shape: Sequence[int] | None, kind: str, num_variables: int, batch_shape: Sequence[int]
) -> None:
    """Raise unless a value is ``(*batch, n)`` with a batch that fits.

    Args:
        shape: of the value; None where it is no tensor.
        kind: the name of its class.
    """
    if not shape or shape[-1] != num_variables:
        got = kind if shape is None else tuple(shape)
        raise ConstraintError(f"value: expected shape (*batch, {num_variables}), got {got}.")
    try:
        broadcast_shapes(shape[:-1], batch_shape)
    except ValueError as error:
        raise ConstraintError(
            f"value: expected a batch shape that broadcasts with {tuple(batch_shape)}, got "
            f"{tuple(shape[:-1])}."
        ) from error


# Values of laws


def infinite_matrix() -> ConstraintError:
    """NaN or infinity somewhere in A."""
    return ConstraintError("A: expected finite entries, got NaN or infinity; check how A is made.")


def mostly_zeros(shape: Shape, share: float) -> str:
    """The hint about a large dense matrix of few entries."""
    return (
        f"A: got a dense array of shape {shape} of which {share:.2%} are zeros; a sparse A "
        "(scipy.sparse, SparseMatrix) or, for disjoint sums, a GroupSum takes a fraction of the "
        "time and memory."
    )


def infinite_sides(entry: float) -> str:
    """NaN or infinity in k."""
    return f"k: expected finite values, got {entry}; check how k is made."


def row_disagrees(where: Sequence[int]) -> InfeasibleConstraintError:
    """A redundant row, ``(*batch, row)``, whose k is not what the others imply."""
    *batch, row = where
    return InfeasibleConstraintError(
        f"A x = k has no solution: row {row} of A{batch or ''} depends on other rows, which imply "
        "another value than its k; correct k, or drop the row."
    )


def off_subspace(tolerance: float, gap: str) -> ConstraintError:
    """A value that is not on the support of a law with a density."""
    return ConstraintError(
        f"value: expected A x = k within the relative tolerance {tolerance:.1e}, got a largest "
        f"residual |A x - k| of {gap}; if the value obeys the law but for rounding or noise, pass "
        f"it through project(value), or give a larger support_tolerance. {STALE_SUPPORT}"
    )


def off_fiber(gap: float, least: float, largest: float) -> ConstraintError:
    """A value that is not on the support of a discrete law."""
    return ConstraintError(
        "value: expected whole numbers 0 <= x <= upper with A x = k, got a largest residual "
        f"|A x - k| of {gap:g} and values from {least:g} to {largest:g}; check the value, or where "
        "k changed after it was drawn."
    )


def different_supports(support: str, one: Any, other: Any) -> ConstraintError:
    """Two laws, on a ``support`` each, between which there is no finite divergence."""
    return ConstraintError(
        f"kl_divergence: expected two laws on the same {support} A x = k, got {one!r} and "
        f"{other!r}, which differ in A or k; the divergence is infinite."
    )


def no_reparametrised_draw(remedy: str) -> NotImplementedError:
    """``rsample`` of a law that scores its draws."""
    return NotImplementedError(
        "a law with gradient_estimator='score_function' has no reparametrised draw; use sample, "
        f"or {remedy}."
    )


def unbounded_variable(asked: str, variable: int) -> ConstraintError:
    """A table over all values of a variable that has infinitely many."""
    return ConstraintError(
        f"{asked}: expected a largest value of every variable, but variable {variable} is in no "
        "row of A and unbounded; ask its base law, or leave it out of the constrained one."
    )


def several_sides(count: int) -> ConstraintError:
    """One enumeration of different fibers."""
    return ConstraintError(
        f"enumerate_support: expected one k for the whole batch, got {count} different ones, whose "
        "fibers differ; enumerate a law of each k, or use a plate in sequence."
    )


def no_joint_base() -> NotImplementedError:
    """``base_dist`` of a Student-t law for each group, a law that no framework has a class for."""
    return NotImplementedError(
        "base_dist: without the constraint, a law per group is a product of multivariate t laws of "
        "groups of any size, which has no class; make one of each group."
    )


def no_sampler(base: Any, event_shape: Any, batch_shape: Any) -> ConstraintError:
    """A base law of which ``FiberSampler`` knows no weights."""
    return ConstraintError(
        "base_distribution: expected Poisson, Bernoulli or Categorical with to_event(1), event "
        f"shape (n,) and no batch, got {type(base).__name__} with event shape {event_shape} and "
        f"batch shape {batch_shape}; make a sampler of each law."
    )


def no_draws() -> ConstraintError:
    """Diagnostics of a sampler that has not run."""
    return ConstraintError("diagnostics: expected draws, got none; call run first.")


def check_coordinates(shape: Sequence[int], size: Any) -> None:
    """Raise unless a value of the transform is ``(*batch, size)``."""
    if len(shape) == 0 or shape[-1] != size:
        raise ConstraintError(
            f"LinearEqualityTransform: expected shape (*batch, {size}), got {tuple(shape)}."
        )


BASES = "isometry", "elimination"


def check_basis(basis: str) -> str:
    """Return the name of a basis of the null space if there is one."""
    if basis not in BASES:
        raise ConstraintError(
            f"basis: expected None or one of {', '.join(BASES)}, got {basis!r}; None lets A choose."
        )
    return basis


def check_columns(name: str, shape: Sequence[int], num_variables: int) -> None:
    """Raise unless a matrix has a column for each variable."""
    if shape[-1] != num_variables:
        raise ConstraintError(
            f"{name}: expected {num_variables} columns, as A has, got shape {tuple(shape)}; give "
            "one for each variable."
        )
