"""Facts about rows, read off their plan."""

import numpy as np
from scipy import sparse

from constrained_core.groups import GroupSum
from constrained_core.linear.plan import DensePlan, GroupPlan, Plan, RowPlan
from constrained_core.linear.saddle_factors import factor_saddle
from constrained_core.linear.sparse_plan import SparsePlan
from constrained_core.linear.sparse_rank import part_labels
from constrained_core.sparse import SparseMatrix

__all__ = ["block_labels", "combination", "condition", "determined_values", "fill", "row_norms"]


def row_norms(matrix: np.ndarray | GroupSum | SparseMatrix) -> np.ndarray:
    """``(m,)`` Euclidean lengths of the rows."""
    if isinstance(matrix, GroupSum):
        return matrix.norms
    if isinstance(matrix, SparseMatrix):
        values = np.asarray(matrix.values, dtype=np.float64)
        return np.sqrt(np.bincount(matrix.row, values**2, minlength=matrix.pattern.shape[0]))
    return np.linalg.norm(matrix.astype(np.float64, copy=False), axis=-1)


def combination(plan: Plan, row: int) -> dict[int, float]:
    """The rows of A that a redundant row follows from, and how often each is taken."""
    of_scaled = sparse.csr_array(plan.dependence)[[int(np.searchsorted(plan.dropped, row))]]
    coefficients = of_scaled.toarray()[0] * plan.row_scale
    return {int(plan.kept[i]): float(coefficients[i]) for i in np.flatnonzero(coefficients)}


def determined_values(plan: Plan, k: np.ndarray) -> np.ndarray:
    """``(*batch, d)`` values of the determined variables, for ``(*batch, m)`` sides that agree."""
    scaled_k = k[..., plan.kept].astype(np.float64) * plan.row_scale
    if plan.determined.size == 0:
        return np.zeros((*scaled_k.shape[:-1], 0))
    if isinstance(plan, DensePlan):
        return scaled_k @ plan.solution.T
    if isinstance(plan, SparsePlan):
        pivots = plan.complete(scaled_k, np.zeros((*scaled_k.shape[:-1], plan.free_size)))
        return pivots[..., np.searchsorted(plan.pivots, plan.determined)]
    assert isinstance(plan, RowPlan | GroupPlan)
    weights = 1.0 if plan.weights is None else plan.weights[plan.determined]
    rows = plan.determined_rows if isinstance(plan, GroupPlan) else [0]
    return scaled_k[..., rows] / weights


def block_labels(plan: Plan) -> np.ndarray:
    """``(n,)`` the independent block of every variable, numbered by their first; -1 for variables
    in no row.

    Variables are in one block where no choice of rows with the same solutions parts them: where
    pivots and the variables that they follow from are joined by entries of ``plan.followers``.
    """
    if isinstance(plan, RowPlan | GroupPlan):
        index = plan.index if isinstance(plan, GroupPlan) else np.zeros(plan.num_variables, int)
        return _numbered(index if plan.weights is None else np.where(plan.weights != 0, index, -1))
    label = np.full(plan.num_variables, -1)
    if plan.rank == 0 or plan.free_size == 0:
        return label if plan.rank == 0 else np.arange(plan.num_variables)
    links = plan.followers
    if links is None:  # too many to be listed: the rows as they stand
        assert isinstance(plan, SparsePlan)
        rows = sparse.csr_array(plan.matrix)
        return _numbered(_where_linked(rows, part_labels(rows)[1]))
    links = sparse.csr_array(links)
    label[plan.pivots], of_free = part_labels(links)
    label[plan.free] = _where_linked(links, of_free)
    return _numbered(label)


def _where_linked(links: sparse.csr_array, label: np.ndarray) -> np.ndarray:
    """The labels of columns, -1 for those without an entry."""
    is_linked = np.bincount(links.indices, links.data != 0, minlength=links.shape[1]) > 0
    return np.where(is_linked, label, -1)


def _numbered(label: np.ndarray) -> np.ndarray:
    """The same parts, 0, 1, ... in the order in which they begin; -1 stays."""
    inside = label >= 0
    _, first, part = np.unique(label[inside], return_index=True, return_inverse=True)
    numbered = np.full(len(label), -1)
    numbered[inside] = np.argsort(np.argsort(first))[part.reshape(-1)]
    return numbered


def condition(plan: Plan) -> float | None:
    """Condition number of the independent rows, each scaled by a power of two to about one.

    None for sparse rows, where nothing asks for it.
    """
    if isinstance(plan, SparsePlan):
        return None
    if isinstance(plan, GroupPlan):
        squares = np.ones(plan.num_variables) if plan.weights is None else plan.weights**2
        lengths = np.sqrt(np.bincount(plan.index, squares, minlength=plan.rank))
        return float(lengths.max() / lengths.min())
    if not isinstance(plan, DensePlan) or plan.rank == 0:
        return 1.0
    if plan.triangle is not None:
        return float(np.linalg.cond(plan.triangle))
    return float(np.sqrt(np.linalg.cond(plan.basis @ plan.basis.T)))  # below 10: no digit is lost


def fill(plan: SparsePlan) -> tuple[int, int]:
    """Entries of the factor of [[I, A'], [A, 0]] in the order chosen for it, and how many indices
    come last in that order, where the factor is dense."""
    factor = factor_saddle(plan.saddle, np.ones(plan.num_variables), plan.values)
    return factor.num_entries, factor.num_late
