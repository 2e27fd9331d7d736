"""The framework that the package extends is there, or it is said what to install."""

__all__: list[str] = []

try:
    import numpyro  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"numpyro_constrained needs NumPyro and JAX, but {error.name} is not installed: "
        "pip install numpyro, or pip install 'constrained-distributions[numpyro]'.",
        name=error.name,
    ) from error
