import io
import pickle

import jax
import jax.numpy as jnp
import numpy as np

from numpyro_constrained import ConstrainedNormal


# A network whose output law obeys a sum: parameters are arrays, A is fixed in the code.
def head(params, features, k):
    loc = params["weight"] @ features
    return ConstrainedNormal(loc, jnp.exp(params["scale"]), np.ones(4), k)


params = {"weight": jnp.arange(12.0).reshape(4, 3) / 10, "scale": jnp.zeros(4)}
file = io.BytesIO()
np.savez(file, **params)
again = dict(np.load(io.BytesIO(file.getvalue())))
law, same = head(params, jnp.ones(3), 1.0), head(again, jnp.ones(3), 1.0)
print(bool((law.mean == same.mean).all()), f"{law.mean.sum():.4f}")  # True 1.0000

# A law is a pytree and can be pickled.
copy = pickle.loads(pickle.dumps(law))
print(bool((copy.mean == law.mean).all()), len(jax.tree.leaves(law)) > 0)  # True True
