"""The nets of ``experiments.vae`` as PyTorch modules, and the same as arrays for JAX."""

from collections.abc import Mapping

import jax.numpy as jnp
from torch import Tensor, nn

from experiments.perceptron import Layer, Parameters


class Net(nn.Module):
    """Two hidden layers, then a linear layer for each head.

    Args:
        inputs, hidden: sizes.
        heads: head -> size.
    """

    def __init__(self, inputs: int, hidden: int, heads: Mapping[str, int]) -> None:
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, size) for name, size in heads.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """``(*batch, size)`` of each head from ``(*batch, inputs)``."""
        shared = self.hidden(x)
        return {name: head(shared) for name, head in self.heads.items()}

    def to_jax(self) -> Parameters:
        """As ``experiments.chemical_units.network.outputs`` reads it."""
        return {
            "hidden": [layer_of(part) for part in self.hidden if isinstance(part, nn.Linear)],
            "heads": {name: layer_of(head) for name, head in self.heads.items()},
            "skips": {},
            "constants": {},
        }


def layer_of(linear: nn.Module) -> Layer:
    """Weight and bias of a linear layer, for rows from the left."""
    weight, bias = (part.detach().numpy() for part in (linear.weight, linear.bias))
    return jnp.asarray(weight.T), jnp.asarray(bias)
