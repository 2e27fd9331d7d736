"""Chains of Poisson variables in which some rows are dealt out unit by unit.

With the rates of a row as shares, the law of its k units on its cells is multinomial, whatever the
order in which they come. So x_j = u has the probability that the first u of them fall on cell j,
and the others on other cells, times the number of ways to choose these u.
"""

from pyro_constrained.kernels.poisson_parts import MergedChain

__all__ = ["DealtChain"]


class DealtChain(MergedChain):
    """Poisson variables whose rows overlap, some of these dealt out unit by unit.

    Args:
        chain: the plan.
        rate: ``(*batch, p)``.
        start: ``(*batch,)``.
    """
