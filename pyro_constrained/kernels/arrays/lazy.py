"""What is made when it is asked for, and kept."""

from typing import Any

import torch
from torch.distributions import utils

__all__ = ["lazy_property"]


class lazy_property(utils.lazy_property):  # named as PyTorch's
    """PyTorch's, which switches derivatives on; that takes a while, also where they are on."""

    def __get__(self, instance: Any, obj_type: Any = None) -> Any:
        if instance is None or not torch.is_grad_enabled():
            return super().__get__(instance, obj_type)
        value = self.wrapped(instance)
        setattr(instance, self.wrapped.__name__, value)
        return value
