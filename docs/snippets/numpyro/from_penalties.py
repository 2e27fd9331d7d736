import jax.numpy as jnp

from numpyro_constrained import ConstrainedNormal

loc, scale, A, k = jnp.zeros(3), jnp.array([1.0, 1.0, 3.0]), jnp.ones(3), 6.0
law = ConstrainedNormal(loc, scale, A, k)
print(law.mean, law.stddev)  # [0.5455 0.5455 4.9091 ] [0.9535 0.9535 1.2792]


# A narrow likelihood Normal(A x; k, eps) instead: the exact posterior, for three widths.
def penalised(eps):
    precision = jnp.diag(scale**-2) + jnp.outer(A, A) / eps**2
    mean = jnp.linalg.solve(precision, A * k / eps**2)
    return f"{mean.sum() - k:.3f}", f"{jnp.linalg.cond(precision):.0f}"


print(penalised(1.0))  # ('-0.500', '11')
print(penalised(0.1))  # ('-0.005', '739')
print(penalised(0.03))  # ('-0.000', '8185')
