"""Errors that a constraint can cause, all of them ``ValueError`` too, and a warning."""

__all__ = [
    "ConstraintError",
    "FiberSamplerWarning",
    "InfeasibleConstraintError",
    "IntractableConstraintError",
    "NoBaseLawError",
    "ParameterError",
    "UnboundedSupportError",
]


class ConstraintError(ValueError):
    """A linear constraint, or what is given with it, cannot be used as it stands."""


class InfeasibleConstraintError(ConstraintError):
    """No point satisfies ``A x = k``."""


class IntractableConstraintError(ConstraintError):
    """An exact answer for ``A x = k`` would exceed the state budget."""


class ParameterError(ConstraintError):
    """The value of a parameter makes no law: not positive, not finite, not positive definite.

    Samplers count it as a rejected step: in PyTorch it is a ``torch.linalg.LinAlgError`` too.
    """


class NoBaseLawError(ParameterError, NotImplementedError, AttributeError):
    """There is no law without the constraint.

    ``hasattr(law, "base_dist")``, by which frameworks look for what a law wraps, is false then.
    """


class UnboundedSupportError(ConstraintError):
    """The integer points with ``A x = k`` are not finitely many where they must be."""


class FiberSamplerWarning(UserWarning):
    """Draws of ``FiberSampler`` not to be trusted yet: chains disagree, or few effective draws."""
