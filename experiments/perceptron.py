"""A multilayer perceptron with several linear heads, for one example, in JAX."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Layer = tuple[Array, Array]
Parameters = dict[str, Any]
Outputs = Mapping[str, Array]


def init_layer(key: Array, fan_in: int, fan_out: int) -> Layer:
    """Weights and biases uniform within 1 / sqrt(fan_in), as PyTorch starts a linear layer."""
    bound = fan_in**-0.5
    key_weight, key_bias = jax.random.split(key)
    weight = jax.random.uniform(key_weight, (fan_in, fan_out), minval=-bound, maxval=bound)
    return weight, jax.random.uniform(key_bias, (fan_out,), minval=-bound, maxval=bound)


def init_network(
    key: Array, num_inputs: int, widths: Sequence[int], heads: Mapping[str, int], skips: bool
) -> Parameters:
    """Hidden layers of the given widths, then a linear layer for each head of its size.

    The hidden layers and the first head do not depend on which heads follow.

    Args:
        skips: whether each head also sees the inputs, at first with weight 0.
    """
    sizes = [num_inputs, *widths]
    keys = [jax.random.fold_in(key, index) for index in range(len(widths) + len(heads))]
    head_keys = zip(heads.items(), keys[len(widths) :], strict=True)
    return {
        "hidden": [init_layer(*layer) for layer in zip(keys, sizes, widths, strict=False)],
        "heads": {name: init_layer(key, sizes[-1], size) for (name, size), key in head_keys},
        "skips": {name: jnp.zeros((num_inputs, heads[name])) for name in heads if skips},
        "constants": {},
    }


def features(parameters: Parameters, x: Array) -> Array:
    """Last hidden layer of one example ``(p,)``."""
    for weight, bias in parameters["hidden"]:
        x = jax.nn.relu(x @ weight + bias)
    return x


def outputs(parameters: Parameters, x: Array) -> dict[str, Array]:
    """Every head's output for one example ``(p,)``, and the constants as they are."""
    shared = features(parameters, x)
    found = parameters["constants"] | {
        n: shared @ weight + bias for n, (weight, bias) in parameters["heads"].items()
    }
    return found | {name: found[name] + x @ skip for name, skip in parameters["skips"].items()}


def count_parameters(parameters: Parameters) -> int:
    """How many numbers a network learns."""
    return sum(leaf.size for leaf in jax.tree.leaves(parameters))


def positive(output: Array, start: float) -> Array:
    """A scale from an output of a network; ``start`` where that is zero."""
    return jax.nn.softplus(output + np.log(np.expm1(start)))


def with_free_head(parameters: Parameters, head: str) -> Parameters:
    """The same parameters; only those of one head have a gradient."""

    def free_or_fixed(path: tuple, leaf: Array) -> Array:
        is_free = any(getattr(step, "key", None) == head for step in path)
        return leaf if is_free else jax.lax.stop_gradient(leaf)

    return jax.tree_util.tree_map_with_path(free_or_fixed, parameters)
