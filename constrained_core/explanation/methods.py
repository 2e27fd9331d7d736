"""By what method a law with a density computes, and what that costs: in words."""

from constrained_core.linear.plan import DensePlan, GroupPlan, Plan, RowPlan
from constrained_core.linear.sparse_plan import SparsePlan

__all__ = ["COVARIANCES", "method", "structure"]

COVARIANCES = {
    "ConstrainedNormal": "diagonal",
    "ConstrainedLowRankMultivariateNormal": "low rank",
    "ConstrainedMultivariateNormal": "dense",
    "ConstrainedGMRF": "sparse precision",
}
"""Laws, and the form of the covariance by which they choose a method."""

HOST = "on the host, in float64 (SciPy's SuperLU)"
UNKNOWN = "rows whose values are not known when the law is planned: factored where they stand"

KRIGING = {
    RowPlan: "closed form along one row: O(n) time and memory",
    GroupPlan: "closed forms group by group: O(n) time and memory",
    DensePlan: (
        "kriging with an r x r matrix: O(n r^2 + r^3) for new scales, O(n r) for a draw or density"
    ),
    SparsePlan: f"[[D^-1, A'], [A, 0]] is factored {HOST}; nothing dense is made",
}
FACTORS = {
    RowPlan: "O(n q^2)",
    GroupPlan: "O(n q^2)",
    DensePlan: "O(n (r + q)^2 + r^3)",
    SparsePlan: "O(n q^2) and q solves",
}


def structure(plan: Plan) -> str:
    """What the plan found and uses."""
    if isinstance(plan, RowPlan):
        return "one row of equal weights" if plan.weights is None else "one row of weights"
    if isinstance(plan, GroupPlan):
        kind = "equal weights" if plan.weights is None else "weights"
        return f"disjoint groups of {kind}: no variable is in two rows"
    if isinstance(plan, SparsePlan):
        return f"sparse rows, {len(plan.given_values):,} entries"
    if plan.rank == 0:
        return "no row that says anything: the law is the base law"
    assert isinstance(plan, DensePlan)
    how = "executed as they are" if plan.triangle is None else "orthonormalised first"
    return f"dense rows, {how}"


def method(covariance: str, plan: Plan | None) -> str:
    """The method and cost of a law whose covariance has this form; ``plan`` of A, if there is one.

    n variables, r independent rows, q columns of a low-rank factor.
    """
    kind = DensePlan if plan is None else type(plan)
    if covariance == "dense":
        found = "Cholesky factor of the n x n covariance: O(n^3); then kriging, O(n^2 + n r) each"
        if kind is SparsePlan:
            found += "; A is made dense"
    elif covariance == "sparse precision":
        found = f"[[Q, A'], [A, 0]] is factored {HOST}"
    elif covariance == "low rank":
        found = f"{KRIGING[kind]}; then q loadings inside the subspace: {FACTORS[kind]}"
    else:
        found = KRIGING[kind]
    return found if plan is not None else f"{UNKNOWN}; {found}"
