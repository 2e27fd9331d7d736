"""Facts about linear equality constraints and plans made from them (NumPy and SciPy only)."""

from constrained_core.errors import (
    ConstraintError,
    FiberSamplerWarning,
    InfeasibleConstraintError,
    IntractableConstraintError,
    ParameterError,
    UnboundedSupportError,
)
from constrained_core.fibre import FibreChain, FibrePlan, GroupFibre
from constrained_core.fibre_planner import MAX_TRANSITIONS, check_lattice, plan_fibre
from constrained_core.fibre_points import count_fibre, enumerate_fibre
from constrained_core.groups import GroupSum
from constrained_core.lattice import as_integers
from constrained_core.planner import check_batched_rows, check_consistency, plan_constraint

__version__ = "0.1.0"

__all__ = [
    "MAX_TRANSITIONS",
    "ConstraintError",
    "FiberSamplerWarning",
    "FibreChain",
    "FibrePlan",
    "GroupFibre",
    "GroupSum",
    "InfeasibleConstraintError",
    "IntractableConstraintError",
    "ParameterError",
    "UnboundedSupportError",
    "__version__",
    "as_integers",
    "check_batched_rows",
    "check_consistency",
    "check_lattice",
    "count_fibre",
    "enumerate_fibre",
    "plan_constraint",
    "plan_fibre",
]
