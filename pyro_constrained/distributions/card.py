"""What a law knows of itself, for its card in a notebook."""

from typing import Any

from constrained_core.explanation.law import LawFacts, form_of, summary_of
from constrained_core.sparse import SparseMatrix

__all__ = ["facts_of"]


def facts_of(law: Any) -> LawFacts:
    """The facts about a law of this package; nothing is computed."""
    names = [name for name in law.arg_constraints if name in law.__dict__]
    first = law.__dict__[names[0]] if names else law.k
    values = first.values if isinstance(first, SparseMatrix) else first
    A = law.A
    return LawFacts(
        name=type(law).__name__,
        summary=summary_of(law),
        batch_shape=tuple(law.batch_shape),
        event_shape=tuple(law.event_shape),
        parameters=[(name, tuple(law.__dict__[name].shape)) for name in names],
        form=form_of(A, A.ndim == 1),
        matrix_shape=tuple(A.shape),
        k_shape=tuple(law.k.shape),
        rank=law.rank if isinstance(law.rank, int) else None,
        plan=law._known_plan,
        covariance=law._covariance_form,
        estimator=getattr(law, "gradient_estimator", None),
        dtype=str(values.dtype),
        device=str(values.device),
    )
