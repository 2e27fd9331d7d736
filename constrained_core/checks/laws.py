"""Errors about values of a law, and about what a law does not have."""

import math
from collections.abc import Sequence
from typing import Any

from constrained_core.errors import ConstraintError, IntractableConstraintError, NoBaseLawError

__all__ = [
    "STALE_SUPPORT",
    "changed_in_place",
    "different_supports",
    "made_without_gradient",
    "no_draws",
    "no_joint_base",
    "no_reparametrised_draw",
    "no_sampler",
    "off_fiber",
    "off_subspace",
    "require_table",
    "several_sides",
    "unbounded_variable",
]

MAX_ENTRIES = 10**8
"""Of a table that an answer is made of: most of a gigabyte in double precision."""
STALE_SUPPORT = (
    "If A or k is itself sampled or learned, or changes with the minibatch: autoguides and MCMC "
    "keep the subspace that they saw first; use reparam.auto_reparam."
)
OTHER_SUPPORTS = (
    "In a mixture, or under an enumerated site, of laws that differ in A or k, values of one are "
    "off the supports of the others: make the laws, and the mixture, with validate_args=False, "
    "which scores them as -inf."
)


def changed_in_place(owner: str, name: str) -> ConstraintError:
    """A parameter that is no longer what a law or a constraint was made of."""
    return ConstraintError(
        f"{name}: expected the values that this {owner} was made with, got others: an optimiser's "
        "step, load_state_dict or another change in place; make it again (in the forward pass of a "
        "module, say), or give it a copy by clone()."
    )


def made_without_gradient(owner: str, name: str) -> ConstraintError:
    """A parameter of which a law knows only a part of the gradient."""
    return ConstraintError(
        f"{name}: expected its gradient to be recorded when this {owner} was made, got one made "
        "under no_grad or inference_mode, of a frozen parameter, or as a copy of another; make it "
        "again where gradients are recorded (in the forward pass of a module, say), or ask it "
        "under torch.no_grad()."
    )


def off_subspace(tolerance: float, gap: str) -> ConstraintError:
    """A value that is not on the support of a law with a density."""
    return ConstraintError(
        f"value: expected A x = k within the relative tolerance {tolerance:.1e}, got a largest "
        f"residual |A x - k| of {gap}; if the value obeys the law but for rounding or noise, pass "
        f"it through project(value), or give a larger support_tolerance. {STALE_SUPPORT} "
        f"{OTHER_SUPPORTS}"
    )


def off_fiber(gap: float, least: float, largest: float) -> ConstraintError:
    """A value that is not on the support of a discrete law."""
    return ConstraintError(
        "value: expected whole numbers 0 <= x <= upper with A x = k, got a largest residual "
        f"|A x - k| of {gap:g} and values from {least:g} to {largest:g}; check the value, or where "
        f"k changed after it was drawn. {OTHER_SUPPORTS}"
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


def require_table(asked: str, batch_shape: Sequence[Any], num_variables: int, size: int) -> None:
    """Raise where the table of all values of all variables, from which an answer comes, would have
    more than ``MAX_ENTRIES``.

    Args:
        asked: the answer.
        batch_shape: of which sizes may be symbols, which do not count.
        num_variables: n.
        size: U.
    """
    known = [number for number in batch_shape if isinstance(number, int)]
    entries = math.prod(known) * num_variables * size
    if entries > MAX_ENTRIES:
        raise IntractableConstraintError(
            f"{asked}: expected at most {MAX_ENTRIES:.0e} entries (*batch, n, U) of the table of "
            f"all values, got {entries:.2g}, for counts up to {size - 1}; estimate it by draws: "
            "an entropy is the mean of -law.log_prob(draws)."
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


def no_joint_base() -> NoBaseLawError:
    """``base_dist`` of a Student-t law for each group, a law that no framework has a class for."""
    return NoBaseLawError(
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
