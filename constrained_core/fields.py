"""Ready-made Gaussian fields: a sparse precision Q, a root of it, and its natural constraint.

Most are *intrinsic*: Q is singular, and the sums or trends that it does not see are what the
constraint A x = k takes away. The law is that of ``ConstrainedGMRF(0, Q, A, k, precision_root=D)``
(Rue and Held 2005, *Gaussian Markov Random Fields*, chapter 3); a precision parameter tau
multiplies the values of Q, and its square root those of D.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from constrained_core.errors import ConstraintError
from constrained_core.groups import GroupSum
from constrained_core.inputs import native, on_host
from constrained_core.linear.saddle import SaddlePattern, saddle_inverse
from constrained_core.sparse import SparseMatrix

__all__ = ["Field", "besag", "independent", "kronecker", "lattice", "random_walk"]


@dataclass(frozen=True, eq=False)
class Field:
    """A Gaussian field with density proportional to exp(-1/2 x'Qx) on A x = k.

    Attributes:
        precision: ``(n, n)`` Q, symmetric, positive definite on the null space of A.
        root: ``(p, n)`` D with Q = D'D.
        A: ``(m, n)`` a ``SparseMatrix`` or a ``GroupSum``.
        k: ``(m,)`` zeros.
    """

    precision: SparseMatrix
    root: SparseMatrix
    A: SparseMatrix | GroupSum
    k: np.ndarray

    @property
    def num_variables(self) -> int:
        """n."""
        return self.precision.pattern.shape[1]


def independent(n: int) -> Field:
    """White noise: Q = I, without a constraint; a factor of ``kronecker``.

    Args:
        n: number of variables.

    Raises:
        ConstraintError: n is not positive.

    Example:
        >>> independent(3).precision
        SparseMatrix(shape=(3, 3), 3 entries)
    """
    _require_size("independent", n, 1)
    return _field(sparse.eye_array(n), sparse.csr_array((0, n)))


def random_walk(n: int, order: int = 1, cyclic: bool = False) -> Field:
    """A random walk: independent standard normal differences of an order, Q = D'D.

    D takes differences of order d, ``(n - d, n)``; order 1 are x_{t+1} - x_t, order 2 are
    x_{t+2} - 2 x_{t+1} + x_t. Q does not see polynomials in t below degree d, and each gets a row
    of A: the sum is 0, the linear trend is 0, and so on. Round a circle D is ``(n, n)``, and only
    the sum is unseen (Rue and Held 2005, section 3.3).

    Args:
        n: number of times.
        order: d, 1 or more.
        cyclic: whether the first time follows the last.

    Raises:
        ConstraintError: n is not above the order, or the order not positive.

    Example:
        >>> random_walk(4).precision.to_dense()
        array([[ 1., -1.,  0.,  0.],
               [-1.,  2., -1.,  0.],
               [ 0., -1.,  2., -1.],
               [ 0.,  0., -1.,  1.]])
        >>> random_walk(5, order=2).A.to_dense()
        array([[ 1. ,  1. ,  1. ,  1. ,  1. ],
               [-1. , -0.5,  0. ,  0.5,  1. ]])
    """
    _require_size("random_walk: order", order, 1)
    _require_size("random_walk: n", n, order + 1)
    root = sparse.eye_array(n, format="csr")
    for _ in range(order):
        steps = root[np.r_[1:n, 0]] if cyclic else root[1:]
        root = sparse.csr_array(steps - (root if cyclic else root[:-1]))
    if order == 1 or cyclic:
        return _field(root, GroupSum(np.zeros(n, dtype=np.int64), 1))
    time = np.linspace(-1, 1, n)
    return _field(root, sparse.csr_array(time ** np.arange(order)[:, None]))


def besag(adjacency: Any, scaled: bool = False, num_nodes: int | None = None) -> Field:
    """The intrinsic autoregression of a graph (ICAR): Q = diag(W 1) - W.

    Every edge says that its ends differ by a normal of precision w_ij, a row of D. Q does not see
    the level of a connected component: each gets one sum that is 0 (Besag, York and Mollie 1991).
    A node without neighbours has a standard normal of precision 1 and is in no sum
    (Freni-Sterrantino, Ventrucci and Rue 2018).

    Args:
        adjacency: W, ``(n, n)`` symmetric, not negative, with a diagonal of zeros, sparse
            or dense; or the edges, ``(E, 2)`` integers.
        scaled: multiply the Q of every component so that the geometric mean of the marginal
            variances of the constrained field is 1 there: a precision parameter means the same on
            any graph (Sorbye and Rue 2014).
        num_nodes: n, where edges are given and the last nodes have none.

    Raises:
        ConstraintError: the graph is none of these.

    Example:
        >>> field = besag([[0, 1], [1, 2], [3, 4]])
        >>> field.precision.to_dense()
        array([[ 1., -1.,  0.,  0.,  0.],
               [-1.,  2., -1.,  0.,  0.],
               [ 0., -1.,  1.,  0.,  0.],
               [ 0.,  0.,  0.,  1., -1.],
               [ 0.,  0.,  0., -1.,  1.]])
        >>> field.A.to_dense()
        array([[1., 1., 1., 0., 0.],
               [0., 0., 0., 1., 1.]])
    """
    weights = _read_graph(adjacency, num_nodes)
    n = weights.shape[0]
    _, label = connected_components(weights, directed=False)
    alone = np.bincount(label)[label] == 1
    edges = sparse.triu(weights, k=1).tocoo()
    size = np.sqrt(edges.data)
    edge = np.arange(len(size))
    differences = sparse.csr_array(
        (
            np.concatenate([size, -size]),
            (np.concatenate([edge, edge]), np.concatenate([edges.row, edges.col])),
        ),
        shape=(len(size), n),
    )
    root = sparse.vstack([differences, sparse.eye_array(n, format="csr")[np.flatnonzero(alone)]])
    field = _field(root, _component_sums(label, alone))
    return _scaled(field, label, alone) if scaled else field


def lattice(shape: int | Sequence[int], cyclic: bool = False, scaled: bool = False) -> Field:
    """``besag`` of a regular lattice of any dimension, each node with its nearest neighbours.

    Args:
        shape: numbers of nodes along the axes, or that of a line; nodes are in the order of
            ``reshape``.
        cyclic: whether the last node of an axis is a neighbour of the first.
        scaled: as for ``besag``.

    Raises:
        ConstraintError: the shape is empty, or a length of it not positive.

    Example:
        >>> lattice((300, 300)).precision
        SparseMatrix(shape=(90000, 90000), 448800 entries)
    """
    lengths = np.atleast_1d(np.asarray(shape, dtype=object)).tolist()
    if len(lengths) == 0:
        raise ConstraintError("lattice: expected one length or more, got none; give the axes.")
    for length in lengths:
        _require_size("lattice", length, 1)
    node = np.arange(np.prod(lengths, dtype=np.int64)).reshape(lengths)
    edges = [np.zeros((0, 2), dtype=np.int64)]
    for axis, length in enumerate(lengths):
        along = np.moveaxis(node, axis, 0)
        edges.append(np.stack([along[:-1].reshape(-1), along[1:].reshape(-1)], axis=-1))
        if cyclic and length > 2:
            edges.append(np.stack([along[-1].reshape(-1), along[0].reshape(-1)], axis=-1))
    return besag(np.concatenate(edges), scaled=scaled, num_nodes=node.size)


def kronecker(first: Field, second: Field) -> Field:
    """The interaction of two fields: Q = Q_1 (x) Q_2 and D = D_1 (x) D_2.

    Variable ``i n_2 + j`` belongs to i of the first and j of the second. What Q does not see is
    what either factor does not see, for every variable of the other, so that A is A_1 (x) I above
    I (x) A_2, whose redundant rows are found by the laws. With ``independent`` fields, random walks
    and ``besag`` these are the interactions of types I to IV of Knorr-Held (2000).

    Args:
        first, second: fields whose A spans what their Q does not see, as all here do.

    Example:
        >>> space_time = kronecker(random_walk(10), lattice((4, 5)))
        >>> space_time.precision.shape, space_time.A.shape
        ((200, 200), (30, 200))
    """
    sizes = first.num_variables, second.num_variables
    one, other = (SparseMatrix.of(field.A).to_scipy() for field in (first, second))
    constraint = sparse.vstack(
        [
            sparse.kron(one, sparse.eye_array(sizes[1])),
            sparse.kron(sparse.eye_array(sizes[0]), other),
        ]
    )
    root = sparse.kron(first.root.to_scipy(), second.root.to_scipy())
    return _field(root, constraint)


def _field(root: sparse.sparray, constraint: sparse.sparray | GroupSum) -> Field:
    rows = constraint if isinstance(constraint, GroupSum) else SparseMatrix.of(constraint)
    root = sparse.csr_array(root)
    precision = root.T @ root
    precision = sparse.csr_array((precision + precision.T) / 2)  # symmetric to the last bit
    precision.eliminate_zeros()
    return Field(SparseMatrix.of(precision), SparseMatrix.of(root), rows, np.zeros(rows.shape[0]))


def _component_sums(label: np.ndarray, alone: np.ndarray) -> sparse.csr_array | GroupSum:
    """One sum of every component of two nodes or more."""
    components, index = np.unique(label[~alone], return_inverse=True)
    if len(components) == 0:
        return sparse.csr_array((0, len(label)))
    groups = np.zeros(len(label), dtype=np.int64)
    groups[~alone] = index
    return GroupSum(groups, len(components), (~alone).astype(np.float64) if alone.any() else None)


def _scaled(field: Field, label: np.ndarray, alone: np.ndarray) -> Field:
    """Every component multiplied by the geometric mean of its constrained variances."""
    variance = _constrained_variance(field)
    factor = np.exp(np.bincount(label, np.log(variance)) / np.bincount(label))[label]
    scale = sparse.diags_array(np.where(alone, 1.0, np.sqrt(factor)))
    return _field(field.root.to_scipy() @ scale, _component_sums(label, alone))


def _constrained_variance(field: Field) -> np.ndarray:
    """``(n,)`` marginal variances given the constraint, from the selected inverse."""
    precision, rows = field.precision, SparseMatrix.of(field.A)
    pattern = SaddlePattern(
        q_row=precision.row,
        q_column=precision.column,
        a_row=rows.row,
        a_column=rows.column,
        num_variables=field.num_variables,
        num_rows=rows.pattern.shape[0],
    )
    on_q, _ = saddle_inverse(pattern, precision.values, rows.values)
    is_diagonal = precision.row == precision.column
    variance = np.zeros(field.num_variables)
    variance[precision.row[is_diagonal]] = on_q[is_diagonal]
    return variance


def _read_graph(adjacency: Any, num_nodes: int | None) -> sparse.csr_array:
    """W, from a matrix or from edges."""
    adjacency = on_host(adjacency)
    if sparse.issparse(adjacency):
        return _checked_weights(adjacency)
    array = native(np.asarray(adjacency))
    is_square = array.ndim == 2 and array.shape[0] == array.shape[1] and num_nodes is None
    is_two_edges = array.shape == (2, 2) and (array.diagonal().any() or (array != array.T).any())
    if is_square and not is_two_edges:
        return _checked_weights(sparse.csr_array(array))
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
        raise ConstraintError(
            "besag: expected a square adjacency matrix or integer edges of shape (E, 2), got "
            f"shape {array.shape} of {array.dtype}; give one of them."
        )
    return _graph_of(array.astype(np.int64), num_nodes)


def _graph_of(edges: np.ndarray, num_nodes: int | None) -> sparse.csr_array:
    n = int(edges.max(initial=-1)) + 1 if num_nodes is None else num_nodes
    _require_size("besag: number of nodes", n, 1)
    wrong = np.flatnonzero(
        (edges < 0).any(-1) | (edges >= n).any(-1) | (edges[:, 0] == edges[:, 1])
    )
    if wrong.size:
        raise ConstraintError(
            f"besag: expected edges between different nodes of 0..{n - 1}, got "
            f"{tuple(edges[wrong[0]].tolist())}; correct the edge, or num_nodes."
        )
    both = np.concatenate([edges, edges[:, ::-1]])
    graph = sparse.csr_array((np.ones(len(both)), (both[:, 0], both[:, 1])), shape=(n, n))
    graph.sum_duplicates()
    graph.data[:] = 1.0  # an edge that is given twice is one edge
    return graph


def _checked_weights(weights: Any) -> sparse.csr_array:
    _require_size("besag: number of nodes", weights.shape[0], 1)
    if weights.dtype.kind not in "fiub":
        raise ConstraintError(f"besag: expected real weights, got {weights.dtype}; convert them.")
    weights = sparse.csr_array(weights.astype(np.float64))  # first: small integers overflow in sums
    weights.sum_duplicates()
    weights.eliminate_zeros()
    if not (np.isfinite(weights.data).all() and (weights.data > 0).all()):
        raise ConstraintError(
            "besag: expected weights that are finite and not negative, got others; check W."
        )
    is_square = weights.shape[0] == weights.shape[1]
    if not is_square or abs(weights - weights.T).max() > 0 or weights.diagonal().any():
        raise ConstraintError(
            "besag: expected a symmetric adjacency matrix with a diagonal of zeros, got one of "
            f"shape {weights.shape} that is not; use W + W.T of one triangle."
        )
    return weights


def _require_size(what: str, size: Any, least: int) -> None:
    if not isinstance(size, int | np.integer) or size < least:
        raise ConstraintError(
            f"{what}: expected a whole number of at least {least}, got {size!r}; correct it."
        )
