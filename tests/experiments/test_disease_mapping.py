"""The map is what it says, both models have one posterior, and the experiment runs."""

import jax
import numpy as np
import pytest
from jax import random
from numpyro.handlers import seed, substitute, trace
from numpyro.infer.util import log_density

from constrained_core.fields import besag
from experiments.disease_mapping.__main__ import main
from experiments.disease_mapping.counties import load
from experiments.disease_mapping.models import METHODS, OURS, build
from numpyro_constrained import ConstrainedGMRF

COUNTIES = load()
FIELD = besag(COUNTIES.adjacency, scaled=True)
DATA = COUNTIES.expected, COUNTIES.deaths


def test_the_map():
    assert len(COUNTIES.deaths) == 100 and COUNTIES.deaths.sum() == 667
    assert (COUNTIES.adjacency != COUNTIES.adjacency.T).nnz == 0
    np.testing.assert_allclose(COUNTIES.expected.sum(), 667)


def test_the_field_is_scaled():
    law = ConstrainedGMRF(0.0, FIELD.precision, FIELD.A, FIELD.k, precision_root=FIELD.root)
    np.testing.assert_allclose(np.log(law.variance).mean(), 0.0, atol=1e-10)
    assert np.abs(law.sample(random.key(0), (10,)).sum(-1)).max() < 1e-12


@pytest.mark.parametrize("method", METHODS[1:])
def test_all_methods_have_one_density_of_effects_that_sum_to_zero(method):
    """Up to a constant: differences of log densities are the same."""
    law = ConstrainedGMRF(0.0, FIELD.precision, FIELD.A, FIELD.k, precision_root=FIELD.root)
    points = law.sample(random.key(1), (2,))
    rest = {
        name: site["value"]
        for name, site in trace(seed(build(OURS, FIELD), 0)).get_trace(*DATA).items()
        if site["type"] == "sample" and not site["is_observed"] and name != "phi"
    }

    def density(name, phi):
        model = substitute(build(name, FIELD), data=rest | {"phi": phi})
        return log_density(model, DATA, {}, {})[0]

    ours, other = (jax.vmap(lambda phi, n=n: density(n, phi))(points) for n in (OURS, method))
    np.testing.assert_allclose(np.diff(ours), np.diff(other), rtol=1e-9)


def test_a_short_run(tmp_path):
    runs = main(["--short", "--only", OURS, "--folder", str(tmp_path)])
    assert (runs["sum"] < 1e-12).all()
    assert (tmp_path / "disease_mapping.png").stat().st_size > 10_000
