import jax.numpy as jnp

from numpyro_constrained import ConstrainedGMRF, fields

# f(region, model = "besag", graph = g, scale.model = TRUE, constr = TRUE)
edges = [[0, 1], [1, 2], [2, 3], [3, 0], [3, 4]]
field = fields.besag(edges, scaled=True)
law = ConstrainedGMRF(0.0, field.precision, field.A, field.k, precision_root=field.root)
print(law.variance)  # [0.9227 1.0410 0.9227 0.5678 1.9873 ]
print(f"{jnp.exp(jnp.log(law.variance).mean()):.4f}")  # 1.0000

# extraconstr = list(A = matrix(c(1, 0, 0, 0, -1), 1), e = 1): one more row
rows = jnp.concatenate([jnp.ones((1, 5)), jnp.array([[1.0, 0, 0, 0, -1]])])
law = ConstrainedGMRF(0.0, field.precision, rows, jnp.array([0.0, 1.0]))
print(law.mean)  # [ 0.3714 0.2286 0.0857 -0.0571 -0.6286]
