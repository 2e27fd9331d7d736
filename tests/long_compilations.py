"""Cases that JAX compiles for seconds, and that `make test-slow` runs.

What each holds is held by `make test` too: in PyTorch and by the parity of the backends, or in JAX
for a smaller law beside it. A pattern is searched for in the name of a test, ``file::test[case]``.
"""

import re

__all__ = ["compiles_long"]

LAWS = r"""
test_dealt_rows.py::test_quantities
test_digits.py::test_residuals_at_every_scale\[float32
test_digits.py::test_residuals_at_every_scale.*low rank
test_digits.py::test_density_under_scales_far_apart\[scale-7-8
test_discrete_input.py::test_integers_of_any_type\[ConstrainedPoisson
test_discrete_laws.py::.*(poisson-outer|poisson-batch_k|bernoulli-mixed|categorical-mixed)
test_discrete_laws.py::test_free_variables_differ_within_a_batch_of_k\[poisson
test_discrete_random.py::test_large_logits\[[02]
test_discrete_random.py::test_large_subsets_in_single_precision
test_discrete_random.py::test_many_groups
test_discrete_random.py::test_poisson_binomial\[300
test_discrete_random.py::test_single_precision\[bernoulli-outer
test_discrete_tails.py::.*(merged|float32)
test_estimators.py::test_pathwise_gradient_is_unbiased
test_gradients.py::.*\[(covariance-dense|student_tril-row|low_rank-dense)
test_input_kinds.py::test_matrices_of_different_rank
test_large_counts.py::test_both_ways_agree
test_paths.py::test_moving_rows\[reparametrised
test_paths.py::test_reparametrised_sites\[tril
test_precision_on_subspace.py::test_gradients
test_random_cases.py::
test_same_subspace.py::test_one_subspace_given_in_two_ways.*(batch of A|two)
test_shapes.py::.*\[student_tril-row
test_structural_zeros.py::test_(quantities|derivatives_of_a_batch|other_zeros|divergence_of_laws)
test_structural_zeros.py::test_points_and_draws\[subsets
test_support.py::.*(covariance-network|covariance-chain).*float32
test_support_check.py::test_log_prob_is_minus_infinity_elementwise\[low_rank-dense-outer
"""
NUMPYRO = r"""
test_discrete.py::test_(second_derivatives|nothing_leaks)
test_discrete.py::test_(trees|pickle)\[poisson_batch
test_discrete_programs.py::test_svi\[score_function
test_gmrf.py::test_nuts
test_jax.py::test_gradient_through_a_law_as_argument\[student
test_jax.py::test_nothing_leaks\[groups
test_jax.py::test_tree_round_trip\[(precision|batched_A)
test_native.py::test_vmap_over_every_parameter\[(low_rank|precision)-all
test_nuts.py::test_(chains_side_by_side|without_data_the_draws_are_those_of_the_prior\[student)
test_reparam.py::test_guide_finds_the_joint_posterior
test_reparam.py::test_learned_value_is_the_most_likely_one\[(A|k)
test_reparam.py::test_nuts_finds_the_joint_posterior\[A
test_svi.py::test_(annealed_guide|laplace_approximation|guide_on_group_sums)
test_svi.py::test_constrained_guide_finds_the_posterior\[TraceMeanField
test_svi.py::test_(full_guide_finds|median_and_quantiles).*AutoMultivariateNormal
"""
PARITY = r"""
test_discrete_values.py::test_values\[(bernoulli-(ragged|batch_all)|poisson-(products|batch_rate))
test_discrete_values.py::test_(values|covariances)\[(poisson-(mixed|equal|weighted)|categorical-mixed)
"""

_IN_JAX = re.compile("|".join(LAWS.split("\n")[1:-1]))
_OTHERS = re.compile("|".join([*NUMPYRO.split("\n")[1:-1], *PARITY.split("\n")[1:-1]]))


def compiles_long(name: str) -> bool:
    """Whether a test, by its node id, is one of them."""
    folder, _, rest = name.removeprefix("tests/").partition("/")
    if folder == "laws":
        return "jax" in rest and _IN_JAX.search(rest) is not None
    return folder in ("on_numpyro", "parity") and _OTHERS.search(rest) is not None
