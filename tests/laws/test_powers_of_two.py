"""The power of two below a number: exact, as products with it have to be."""

from importlib import import_module

import numpy as np

from tests.adapters import each_backend


@each_backend
def test_power_of_two_below(backend):
    kernel = import_module(f"{backend.package}.kernels.arrays.linalg")
    for dtype in ("float32", "float64"):
        info = np.finfo(dtype)
        powers = np.ldexp(np.ones(1, dtype), np.arange(info.minexp, info.maxexp)).astype(dtype)
        sizes = np.concatenate([powers, np.nextafter(powers, np.inf, dtype=dtype), [info.max, 0]])
        _, exponent = np.frexp(sizes)
        expected = np.where(sizes > 0, np.ldexp(np.ones_like(sizes), exponent - 1), 1)
        found = backend.numpy(kernel.power_of_two_below(backend.array(sizes, dtype)))
        np.testing.assert_array_equal(found, expected)
