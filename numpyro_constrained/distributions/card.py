"""What a law knows of itself, for its card in a notebook."""

from typing import Any

import jax
from jax.core import Tracer

from constrained_core import SparseMatrix
from constrained_core.explanation.law import LawFacts, form_of, summary_of
from numpyro_constrained.kernels.arrays.leaves import leaf_shape

__all__ = ["facts_of"]


def facts_of(law: Any) -> LawFacts:
    """The facts about a law of this package; nothing is computed."""
    parameters = [(name, getattr(law, name)) for name in law._given()]
    values = _values(parameters[0][1] if parameters else law.k)
    return LawFacts(
        name=type(law).__name__,
        summary=summary_of(law),
        batch_shape=tuple(law.batch_shape),
        event_shape=tuple(law.event_shape),
        parameters=[(name, leaf_shape(leaf)) for name, leaf in parameters],
        form=form_of(law.A, law._layout.is_vector),
        matrix_shape=leaf_shape(law.A),
        k_shape=leaf_shape(law.k),
        rank=getattr(law._known_plan, "rank", getattr(law._layout, "rank", None)),
        plan=law._known_plan,
        covariance=law._covariance_form,
        estimator=getattr(law, "gradient_estimator", None),
        dtype=str(values.dtype) if hasattr(values, "dtype") else None,
        device=_device(values),
    )


def _values(leaf: Any) -> Any:
    return leaf.values if isinstance(leaf, SparseMatrix) else leaf


def _device(values: Any) -> str | None:
    """Where values are; None of what is traced, or no array."""
    if isinstance(values, Tracer) or not isinstance(values, jax.Array):
        return None
    return ", ".join(sorted(map(str, values.devices())))
