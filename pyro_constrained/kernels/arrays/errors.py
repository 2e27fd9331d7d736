"""What PyTorch calls an error of values."""

import torch

from constrained_core.errors import ParameterError

__all__ = ["TensorParameterError"]


class TensorParameterError(ParameterError, torch.linalg.LinAlgError):
    """A ``ParameterError`` that samplers on PyTorch count as a rejected step, as they do a failed
    factorisation of an ordinary law."""
