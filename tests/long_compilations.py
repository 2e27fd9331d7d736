"""Cases that JAX compiles for seconds, and that `make test-slow` runs.

What each holds is held by `make test` too: in PyTorch and by the parity of the backends, or in JAX
for a smaller law beside it. A pattern is searched for in the name of a test, ``file::test[case]``.
"""

import re

__all__ = ["compiles_long"]

HELD = "(covariance-(badly|none)|diagonal-(single|row-empty))"
"""Whose figures tests/parity compares, in JAX, with those of PyTorch."""
SINGLE = "(covariance-(badly|none|dense)|precision|diagonal-(single|row-empty))"
"""Others hold single precision, one of each law."""
ALIKE = "(precision|tril|row|batched_loc|broadcast|student_tril)"
"""Of the law and the kind of rows of another entry of tests/on_numpyro/test_native.py."""

LAWS = rf"""
test_batches.py::test_a_batch_is_its_members\[jax-low_rank
test_batches.py::test_divergences.*(low_rank-covariance|covariance-field)
test_certain.py::test_means_are_probabilities\[A1
test_constrain.py::test_constrain_the_base_distribution\[covariance
test_dealt_rows.py::test_(quantities|many_right_hand_sides)
test_density.py::test_log_prob_in_reduced_coordinates\[float32-{SINGLE}
test_digits.py::test_a_batch_of_dominating_variables\[(one row|groups)
test_digits.py::test_residuals_at_every_scale\[float32
test_digits.py::test_residuals_at_every_scale.*low rank
test_digits.py::test_density_under_scales_far_apart\[(scale_tril|low rank|scale-7-8)
test_discrete_errors.py::test_negative_k_is_fine_with_negative_entries\[(poisson|categorical)
test_discrete_input.py::test_integers_of_any_type\[ConstrainedPoisson
test_discrete_laws.py::.*(poisson-outer|poisson-batch_k|bernoulli-mixed|categorical-mixed)
test_discrete_laws.py::test_a_plan_for_all_k_up_to_a_bound\[bernoulli
test_discrete_laws.py::test_constrain\[(bernoulli-ones|categorical)
test_discrete_laws.py::test_free_variables_differ_within_a_batch_of_k\[poisson
test_discrete_laws.py::test_gradients\[(variance|mean-categorical)
test_discrete_laws.py::test_marginal_expectation_has_the_gradient_of_the_mean\[(poisson|bernoulli)-ones
test_discrete_random.py::test_empty_batch\[A1
test_discrete_random.py::test_large_logits\[[02358]
test_discrete_random.py::test_large_subsets_in_single_precision
test_discrete_random.py::test_(many_groups|two_binomials)
test_discrete_random.py::test_poisson_binomial\[(2|64|300)-
test_discrete_random.py::test_single_precision\[bernoulli-outer
test_discrete_random.py::test_tiny_marginals_keep_their_digits\[A1
test_discrete_tails.py::.*(merged|float32)
test_discrete_tails.py::test_bernoulli\[(two groups|.*-100\.0)
test_discrete_tails.py::test_(one_that_hardly_varies\[20|poisson\[sum with one)
test_estimators.py::test_pathwise_gradient_is_unbiased
test_fiber_sampler.py::test_draws_of_many_chains\[bernoulli
test_fiber_sampler.py::test_the_law_is_stationary.*(knapsack|equal|shared|poisson-negative|categorical-neg)
test_goodness_of_fit.py::test_(first_two_moments|marginals_and_radius)\[(precision|covariance-redundant)
test_gradients.py::.*\[(covariance-dense|student_tril-row|low_rank-dense)
test_input_kinds.py::test_(data_frames|sparse_matrices_are_taken)\[Constrained(Multi|Categ)
test_input_kinds.py::test_arrays_that_change_later\[ConstrainedMultivariateNormal
test_input_kinds.py::test_matrices_of_different_rank
test_large_counts.py::test_both_ways_agree
test_large_counts.py::test_sums_in_single_precision\[10{{3,5}}-
test_moments.py::test_.*\[{HELD}
test_moments.py::test_(student_expected_l2\[student_tril-dense-outer|kl_across_families\[low)
test_number_scale.py::test_values\[(most|batch of (k|A)|redundant|badly|ones|row|full|none)
test_paths.py::test_draws\[scale
test_paths.py::test_moving_rows\[reparametrised
test_paths.py::test_reparametrised_sites\[(tril|low rank)
test_pinned.py::.*(one row, not zero|the same row twice|a sum of nothing but zeros)
test_pinned.py::.*float32-(one row|dependent)
test_precision_on_subspace.py::test_gradients
test_precision_on_subspace.py::test_(intrinsic_fields|map_from_noise|what_rows).*more rows
test_random_cases.py::
test_same_subspace.py::test_one_subspace_given_in_two_ways.*(batch of A|two|a point|a variable)
test_shapes.py::.*\[student_tril-row
test_structural_zeros.py::test_(quantities|derivatives_of_a_batch|other_zeros|divergence_of_laws)
test_structural_zeros.py::test_derivatives_in_parameters_that_are_zero\[poisson
test_structural_zeros.py::test_points_and_draws\[(subsets|levels)
test_student_per_group.py::test_batches_and_single_precision
test_student_per_group.py::test_gradients\[(loc|scale)
test_student_digits.py::test_many_degrees_of_freedom\[(one row|full)
test_support.py::.*(covariance-network|covariance-chain).*float32
test_support.py::test_draws_satisfy_hard_constraints\[(covariance|low_rank).*float32
test_support.py::test_draws_satisfy_the_constraint\[{SINGLE}.*float32
test_support_check.py::test_.*\[{HELD}
test_support_check.py::test_.*\[low_rank-dense-outer
"""
NUMPYRO = rf"""
test_discrete.py::test_(second_derivatives|nothing_leaks)
test_discrete.py::test_traced_k\[(bernoulli_row|poisson_groups)
test_discrete.py::test_vmap_over_parameters\[(bernoulli_row|poisson_trellis)
test_discrete.py::test_(trees|pickle|native_members)\[(poisson_batch|poisson_groups|bernoulli_probs)
test_discrete_programs.py::test_svi\[score_function
test_export.py::test_a_symbolic_batch\[(covariance|one_row|counts)
test_gmrf.py::test_(nuts|car\[False|draws\[(float64-root|float32-factor))
test_jax.py::test_gradient_through_a_law_as_argument\[(student|dense)
test_jax.py::test_jit_with_the_law_as_closure_and_as_result\[student
test_jax.py::test_nothing_leaks\[groups
test_jax.py::test_tree_round_trip\[{ALIKE}
test_jax.py::test_vmap_over_(constraints|parameters_and_keys\[low_rank)
test_learned_covariance.py::test_(nuts_finds_a_correlation|map_along_a_path\[(precision|tril))
test_likelihood.py::test_(learning_from_minibatches\[5|(sequence|subsampling_is_unbiased)\[dense)
test_matrix_in_a_model.py::test_a_law_built_before_x64_was_switched\[(diagonal|low rank)
test_matrix_in_a_model.py::test_derivatives_off_the_support.*numpy\]
test_matrix_in_a_model.py::test_variance_of_a_variable_that_dominates\[.*low rank
test_held.py::test_derivatives_are_those_of_small_constants\[wide
test_impossible_draws.py::test_draws_where_nothing_can_be_drawn\[(bernoulli_trellis|poisson_groups)
test_native.py::test_(expand|shapes|support_shape|to_event_and_mask|transforms_of_the_support)\[{ALIKE}
test_native.py::test_vmap_over_every_parameter\[(low_rank|precision|student)-all
test_native.py::test_shapes\[student_groups
test_nuts.py::test_(chains_side_by_side|without_data_the_draws_are_those_of_the_prior\[student)
test_rejected_steps.py::test_no_law_has_no_density\[(precision|tril|scale of a row)
test_reparam.py::test_guide_finds_the_joint_posterior
test_reparam.py::test_learned_value_is_the_most_likely_one\[(A|k|loc)
test_reparam.py::test_nuts_finds_the_joint_posterior\[A
test_reparam.py::test_stale_guide_has_an_infinite_loss\[(learned|sampled-A)
test_sparse.py::test_(nuts|batches|draws_obey_to_the_last_bits\[float64|elimination\[(row|ones))
test_sparse.py::test_same_figures_as_dense\[normal-(determined|square|no rows|bad scales)
test_sparse_rows.py::test_products\[shape(2|1-(few|uneven)|0-uneven)
test_student_per_group.py::test_(nuts_finds_the_posterior|guide_comes_near_the_evidence)
test_svi.py::test_(annealed_guide|laplace_approximation|guide_on_group_sums|.*_learns_)
test_svi.py::test_constrained_guide_finds_the_posterior\[TraceMeanField
test_svi.py::test_diagonal_guide_finds_an_isotropic_posterior\[AutoDiagonalNormal
test_svi.py::test_(full_guide_finds|median_and_quantiles).*AutoMultivariateNormal
test_tools.py::test_(compiled_elbo|copies|mean_field_elbo_takes_the_exact_divergence)\[(precision|row)
test_tools.py::test_init_strategies\[AutoMultivariateNormal
test_traced_k.py::test_right_or_flagged\[(poisson (row|div|merged)|bernoulli (groups|bound|mixed))
test_traced_k.py::test_scores_scans_and_derivatives\[poisson merged
"""
PARITY = r"""
test_discrete_values.py::test_values\[(bernoulli-(ragged|batch_all)|poisson-(products|batch_(rate|k)))
test_discrete_values.py::test_values\[(poisson-(single|point)|bernoulli-(margins|signed)|categorical-ones)
test_discrete_values.py::test_(values|covariances)\[(poisson-(mixed|equal|weighted|signed)|categorical-mixed|bernoulli-outer)
test_discrete_values.py::test_gradients\[poisson-(signed|product|equal|weighted|batch_r|outer|single|point)
test_discrete_values.py::test_gradients\[bernoulli-(logits|margins|signed|groups|batch_all|none|mixed)
test_discrete_values.py::test_what_depends_on_the_plan\[none
test_discrete_values.py::test_gradients\[(bernoulli|poisson)-ragged|test_gradients\[categorical-(ones|bin|mix)
test_gradients.py::.*(precision|covariance-redundant|diagonal-row|covariance-batched)
"""

_IN_JAX = re.compile("|".join(LAWS.split("\n")[1:-1]))
_OTHERS = re.compile("|".join([*NUMPYRO.split("\n")[1:-1], *PARITY.split("\n")[1:-1]]))


def compiles_long(name: str) -> bool:
    """Whether a test, by its node id, is one of them."""
    folder, _, rest = name.removeprefix("tests/").partition("/")
    if folder == "laws":
        return "jax" in rest and _IN_JAX.search(rest) is not None
    return folder in ("on_numpyro", "parity") and _OTHERS.search(rest) is not None
