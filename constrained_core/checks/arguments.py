"""Which arguments are given, and names that are chosen from a few."""

from collections.abc import Collection, Iterable
from typing import Any

from constrained_core.errors import ConstraintError
from constrained_core.groups import GroupSum

__all__ = [
    "BASES",
    "check_basis",
    "check_estimator",
    "check_per_group",
    "check_site",
    "exactly_one",
    "require_both_sides",
    "unknown_base",
]


def exactly_one(**parameters: Any) -> tuple[str, Any]:
    """The name and value of the one parameter that is not None.

    Raises:
        ConstraintError: there is none, or more than one.
    """
    given = [(name, value) for name, value in parameters.items() if value is not None]
    if len(given) != 1:
        names = ", ".join(name for name, _ in given) or "none"
        raise ConstraintError(f"expected exactly one of {', '.join(parameters)}, got {names}.")
    return given[0]


def check_estimator(name: str, allowed: Collection[str]) -> str:
    """Return ``name`` if it is one of ``allowed``.

    Raises:
        ConstraintError: it is not.
    """
    if name not in allowed:
        raise ConstraintError(
            f"gradient_estimator: expected one of {', '.join(allowed)}, got {name!r}."
        )
    return name


def check_site(who: str, wanted: str, name: str, law: Any, fits: bool, is_observed: bool) -> None:
    """Raise where a reparametrisation is not for a site.

    Args:
        who: the reparametrisation.
        wanted: in words, the laws that it is for.
        name: the site.
        law: of the site.
        fits: whether the law is one of these.
        is_observed: whether the site is.
    """
    if not fits:
        raise ConstraintError(
            f"{who}: expected {wanted} at site {name!r}, got {type(law).__name__}; leave that "
            "site out of the config."
        )
    if is_observed:
        raise ConstraintError(
            f"{who}: expected a latent site, got the observed site {name!r}; observed sites need "
            "no reparametrisation. (A latent site inside of a scan looks observed from outside: "
            "put the handler into the body of the scan.)"
        )


def unknown_base(known: Iterable[tuple[type, int]], base: Any, event_shape: Any) -> ConstraintError:
    """The error of ``constrain``, from the classes that are known, with ``to_event``."""
    names = ", ".join(cls.__name__ + (f"(...).to_event({n})" if n else "") for cls, n in known)
    return ConstraintError(
        f"constrain: expected one of {names}, got {type(base).__name__} with event shape "
        f"{event_shape}; use to_event(1) for independent variables, or register the law with "
        "constrain.register."
    )


def check_per_group(per_group: bool, A: Any, parameter: str) -> None:
    """Raise where a law for each group is asked for and there are no groups, or no ``scale``."""
    if per_group and not (isinstance(A, GroupSum) and parameter == "scale"):
        raise ConstraintError(
            "per_group: expected A to be a GroupSum and the parameter scale, got "
            f"{type(A).__name__} and {parameter}; give A as a GroupSum and L = diag(scale), or a "
            "law for each batch element."
        )


def require_both_sides(A: Any, k: Any) -> None:
    """Raise where one side of ``A x = k`` is missing."""
    if A is None or k is None:
        missing = " and ".join(name for name, part in (("A", A), ("k", k)) if part is None)
        raise ConstraintError(f"expected A and k, got no {missing}; give both sides of A x = k.")


BASES = "isometry", "elimination"


def check_basis(basis: str) -> str:
    """Return the name of a basis of the null space if there is one."""
    if basis not in BASES:
        raise ConstraintError(
            f"basis: expected None or one of {', '.join(BASES)}, got {basis!r}; None lets A choose."
        )
    return basis
