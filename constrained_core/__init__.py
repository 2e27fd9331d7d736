"""Facts about linear equality constraints and plans made from them (NumPy and SciPy only)."""

from constrained_core.errors import (
    ConstraintError,
    InfeasibleConstraintError,
    IntractableConstraintError,
    UnboundedSupportError,
)
from constrained_core.groups import GroupSum
from constrained_core.planner import check_batched_rows, check_consistency, plan_constraint

__all__ = [
    "ConstraintError",
    "GroupSum",
    "InfeasibleConstraintError",
    "IntractableConstraintError",
    "UnboundedSupportError",
    "check_batched_rows",
    "check_consistency",
    "plan_constraint",
]
