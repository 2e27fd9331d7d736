"""Gradients of log_prob agree along every path on which the law stays defined."""

import pytest

from tests.adapters import BACKENDS, each_case
from tests.cases import REPRESENTATIVE, Case, select
from tests.laws import paths

EXACT = 1e-12

pytestmark = pytest.mark.skipif(len(BACKENDS) < 2, reason="needs both frameworks")

GRADIENT_CASES = REPRESENTATIVE + select(
    "covariance-redundant", "diagonal-row", "diagonal-groups", "covariance-batched"
)


@each_case(GRADIENT_CASES)
@pytest.mark.parametrize("differentiate_A", [False, True], ids=["A fixed", "A free"])
def test_log_prob_gradients(case: Case, differentiate_A: bool, rng):
    if differentiate_A and not paths.has_free_A(case):
        pytest.skip("A is a GroupSum, of deficient rank, or shared by a batch")
    x = case.points(rng, count=1)[0]
    at = paths.inputs(case, x) | ({"A": case.A} if differentiate_A else {})

    def gradients(backend):
        def score(arrays):
            replaced = {name: value for name, value in arrays.items() if name != "x"}
            return backend.law(case, **replaced).log_prob(arrays["x"]).sum()

        return backend.gradients(score, at)

    found, other = map(gradients, BACKENDS)
    for direction in paths.directions(case, x, rng):
        if direction.keys() <= found.keys():
            slopes = (paths.along(found, direction), paths.along(other, direction))
            assert slopes[0] == pytest.approx(slopes[1], rel=EXACT, abs=EXACT)
