import numpy as np

from numpyro_constrained import ConstrainedNormal, summing_matrix

shops = {"state": ["CA", "CA", "TX", "TX"]}
sales = summing_matrix(shops, levels=[(), ("state",)])  # total, two states, four shops
base = np.array([10.0, 6.0, 5.0, 2.0, 3.0, 2.0, 2.0])  # forecasts that do not add up
variance = np.array([4.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0])

# MinT with a diagonal W: S (S' W^-1 S)^-1 S' W^-1 base
S = np.vstack([sales.S.toarray(), np.eye(4)])
weights = S.T / variance
mint = S @ np.linalg.solve(weights @ S, weights @ base)
print(mint.round(4))  # [10. 5.5 4.5 2.25 3.25 2.25 2.25]

law = ConstrainedNormal(base, np.sqrt(variance), sales.A, sales.k)
print(law.mean)  # [10. 5.5 4.5 2.25 3.25 2.25 2.25]
print(np.asarray(law.stddev).round(3))  # [1.155 0.913 0.913 0.842 0.842 0.842 0.842]
print(bool(abs(sales.A.to_dense() @ law.mean).max() < 1e-5))  # True
