"""Chains of Poisson variables in which some rows are dealt out unit by unit.

With the rates of a row as shares, the law of its k units on its cells is multinomial, whatever the
order in which they come. So x_j = u has the probability that the first u of them fall on cell j,
and the others on other cells, times the number of ways to choose these u.
"""

from functools import cached_property

import torch
from torch import Tensor

from constrained_core.fibre import FibreChain
from constrained_core.fibre_deals import Deal
from pyro_constrained.kernels import fibre_chain
from pyro_constrained.kernels.fibre_chain import log_sum_exp
from pyro_constrained.kernels.fibre_groups import safe_log
from pyro_constrained.kernels.fibre_parts import MergedChain
from pyro_constrained.kernels.plans import plan_tensor
from pyro_constrained.kernels.poisson_pmf import log_poisson
from pyro_constrained.kernels.shapes import broadcast_shapes, expanded

__all__ = ["DealtChain"]


class DealtChain(MergedChain):
    """Poisson variables whose rows overlap, some of these dealt out unit by unit.

    Args:
        chain: the plan.
        rate: ``(*batch, p)``.
        start: ``(*batch,)``.
    """
