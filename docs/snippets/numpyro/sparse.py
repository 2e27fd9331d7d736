import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from numpyro_constrained import ConstrainedNormal, SparseMatrix

# A ring of 500 pipes: at each junction the two flows differ by what is drawn there.
n = 500
ring = sparse.eye_array(n, format="csr") - sparse.csr_array(np.roll(np.eye(n), 1, axis=0))
demand = np.zeros(n)
demand[0], demand[250] = 1.0, -1.0
law = ConstrainedNormal(0.0, jnp.ones(n), ring, demand)
print(law.rank, law.mean[jnp.array([0, 100, 250, 400])])  # 499 [ 0.5 0.5 -0.5 -0.5]


# Learned coefficients: a static pattern, and values with a gradient.
def log_prob(values):
    A = SparseMatrix([0, 0, 1], [0, 1, 2], values, (2, 3))
    return ConstrainedNormal(0.0, jnp.ones(3), A, jnp.array([1.0, 1.0])).constraint_log_prob()


print(jax.grad(log_prob)(jnp.array([1.0, 2.0, 1.0])))  # [-0.16 -0.32 0. ]
