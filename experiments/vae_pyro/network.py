"""The nets of ``experiments.vae`` as PyTorch modules, and the same as arrays for JAX."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import jax.numpy as jnp
from torch import Tensor, nn

from experiments.perceptron import Layer, Parameters


class Net(nn.Module):
    """Hidden layers, then a linear layer for each head.

    Args:
        inputs: size.
        widths: of the hidden layers.
        heads: head -> size.
    """

    def __init__(self, inputs: int, widths: Sequence[int], heads: Mapping[str, int]) -> None:
        super().__init__()
        pairs = pairwise([inputs, *widths])
        self.hidden = nn.Sequential(
            *(part for pair in pairs for part in (nn.Linear(*pair), nn.ReLU()))
        )
        last = widths[-1]
        self.heads = nn.ModuleDict({name: nn.Linear(last, size) for name, size in heads.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """``(*batch, size)`` of each head from ``(*batch, inputs)``."""
        return self.from_features(self.hidden(x))

    def from_features(self, shared: Tensor) -> dict[str, Tensor]:
        """The same from the last hidden layer."""
        return {name: head(shared) for name, head in self.heads.items()}

    def to_jax(self) -> Parameters:
        """As ``experiments.perceptron.outputs`` reads it."""
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
