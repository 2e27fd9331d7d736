"""Directions in which the inputs of a law can move, and derivatives along them.

The density at a fixed x says nothing off the subspace, so its partial derivative in k or in A
alone has no meaning: x must move with them.  Along {k: A v, x: v} and {A: V, k: V x} the point
stays on the subspace, and the derivative of log_prob is that of the law, whatever the code does
off it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from tests import oracles
from tests.cases import Case, Groups

Direction = Mapping[str, np.ndarray]


def inputs(case: Case, x: np.ndarray) -> dict[str, np.ndarray]:
    return {**case.params, "k": case.k, "x": x}


def moved(case: Case, x: np.ndarray, direction: Direction, t: float) -> tuple[Case, np.ndarray]:
    params = {name: value + t * direction.get(name, 0.0) for name, value in case.params.items()}
    other = replace(
        case,
        params=params,
        A=case.A + t * direction["A"] if "A" in direction else case.A,
        k=case.k + t * direction.get("k", 0.0),
    )
    return other, x + t * direction.get("x", 0.0)


def along(gradients: Mapping[str, np.ndarray], direction: Direction) -> float:
    return float(sum(np.sum(gradients[name] * tangent) for name, tangent in direction.items()))


def has_free_A(case: Case) -> bool:
    """A dense A of full row rank, with a k of its own for each A."""
    if isinstance(case.A, Groups) or case.rows_k.shape[:-1] != case.batch_shape:
        return False
    full = all(problem.rank == case.dense_A.shape[-2] > 0 for problem in case.problems.values())
    return full and case.dense_A.shape[:-2] == case.batch_shape


def directions(case: Case, x: np.ndarray, rng: np.random.Generator) -> Iterator[Direction]:
    for name, value in case.params.items():
        yield {name: _tangent(name, value, case.unit, rng)}
    v = case.unit * rng.normal(size=(*case.rows_k.shape[:-1], case.n))
    yield {"k": _rows(case, case.dense_A, v), "x": np.broadcast_to(v, x.shape)}
    yield {
        "x": case.expected(lambda p: oracles.point(p, rng) - oracles.mean(p), event_shape=(case.n,))
    }
    if has_free_A(case):
        V = rng.normal(size=case.dense_A.shape)
        yield {"A": V.reshape(case.A.shape), "k": _rows(case, V, x)}


def _rows(case: Case, A: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A x in the shape of k."""
    return (A @ x[..., None])[..., 0].reshape(case.k.shape)


def _tangent(name: str, value: np.ndarray, unit: float, rng: np.random.Generator) -> np.ndarray:
    """A direction of the parameter's own size that keeps its structure."""
    if name == "loc":
        return unit * rng.normal(size=value.shape)
    tangent = 0.5 * rng.normal(size=value.shape) * np.max(np.abs(value), initial=0.0)
    if name in ("covariance_matrix", "precision_matrix"):
        return 0.2 * (tangent + tangent.swapaxes(-1, -2))
    return np.tril(tangent) if name == "scale_tril" else tangent
