import jax.numpy as jnp
import numpy as np
from scipy import sparse

from numpyro_constrained import ConstrainedNormal, GroupSum, SparseMatrix, fields, summing_matrix

# Disjoint sums by an index, O(n) for everything.
groups = GroupSum([0, 0, 1, 1, 1], num_groups=2)
law = ConstrainedNormal(jnp.zeros(5), jnp.ones(5), groups, jnp.array([2.0, 3.0]))
print(law.mean)  # [1. 1. 1. 1. 1.]

# A sparse matrix, of scipy or as a static pattern with values that may be learned.
A = sparse.csr_array(groups.to_dense())
print(ConstrainedNormal(0.0, jnp.ones(5), A, [2.0, 3.0]).mean)  # [1. 1. 1. 1. 1.]
learned = SparseMatrix.of(A).with_values(jnp.ones(5))
print(learned)  # SparseMatrix(shape=(2, 5), 5 entries)

# Fields: a sparse precision, its root, and the constraint that makes it proper.
walk = fields.random_walk(50, order=2)
print(walk.precision, walk.A.shape)  # SparseMatrix(shape=(50, 50), 244 entries) (2, 50)

# Hierarchies: every sum that is asked for, above the bottom series.
shops = {"state": ["CA", "CA", "TX"], "item": ["tea", "rice", "tea"]}
sales = summing_matrix(shops, levels=[(), ("state",)])
print(sales.with_sums(np.array([1.0, 2.0, 4.0])), sales.A.shape)  # [7. 3. 4. 1. 2. 4.] (3, 6)
