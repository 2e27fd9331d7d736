import numpy as np
from hierarchicalforecast.methods import MinTrace

S = np.vstack([np.ones((1, 4)), np.kron(np.eye(2), np.ones((1, 2))), np.eye(4)])
base = np.array([10.0, 6.0, 5.0, 2.0, 3.0, 2.0, 2.0])
found = MinTrace(method="wls_struct").fit_predict(S=S, y_hat=base[:, None])  # W = diag(S 1)
print(found["mean"][:, 0].round(4))  # [10. 5.5 4.5 2.25 3.25 2.25 2.25]
