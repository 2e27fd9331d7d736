"""The framework that the package extends is there, or it is said what to install."""

__all__: list[str] = []

try:
    import pyro  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"pyro_constrained needs Pyro and PyTorch, but {error.name} is not installed: "
        "pip install pyro-ppl, or pip install 'constrained-distributions[pyro]'.",
        name=error.name,
    ) from error
