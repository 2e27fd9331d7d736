"""Facts about linear equality constraints and plans made from them (NumPy and SciPy only)."""

from constrained_core import fields
from constrained_core.errors import (
    ConstraintError,
    FiberSamplerWarning,
    InfeasibleConstraintError,
    IntractableConstraintError,
    NoBaseLawError,
    ParameterError,
    UnboundedSupportError,
)
from constrained_core.explanation.explanation import Explanation, explain
from constrained_core.fiber.disjoint_groups import DisjointGroups
from constrained_core.fiber.lattice import as_integers
from constrained_core.fiber.plan import FiberPlan
from constrained_core.fiber.planner import MAX_TRANSITIONS, check_lattice, plan_fiber
from constrained_core.fiber.points import count_fiber, enumerate_fiber
from constrained_core.fiber.trellis import Trellis
from constrained_core.groups import GroupSum
from constrained_core.hierarchy import summing_matrix
from constrained_core.linear.planner import check_consistency, plan_constraint, plan_pattern
from constrained_core.sparse import SparseMatrix, SparsePattern

__version__ = "0.1.0"

__all__ = [
    "MAX_TRANSITIONS",
    "ConstraintError",
    "DisjointGroups",
    "Explanation",
    "FiberPlan",
    "FiberSamplerWarning",
    "GroupSum",
    "InfeasibleConstraintError",
    "IntractableConstraintError",
    "NoBaseLawError",
    "ParameterError",
    "SparseMatrix",
    "SparsePattern",
    "Trellis",
    "UnboundedSupportError",
    "__version__",
    "as_integers",
    "check_consistency",
    "check_lattice",
    "count_fiber",
    "enumerate_fiber",
    "explain",
    "fields",
    "plan_constraint",
    "plan_fiber",
    "plan_pattern",
    "summing_matrix",
]
