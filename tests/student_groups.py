"""Student-t laws of groups of variables given a sum of each: an oracle, and a posterior of them."""

from functools import cached_property

import numpy as np
from scipy import integrate, stats
from scipy.linalg import null_space

from tests.chance import of_chain_mean

__all__ = ["FIELD", "Field", "Group", "groups_of"]


class Group:
    """The law of one group, in coordinates of an orthonormal basis of its null space.

    Args:
        inside: its variables.
        row: ``(n,)`` their weights; zeros for no row.
        k: the sum.
        df, loc, scale: ``(n,)`` of the law without it.
    """

    def __init__(self, inside, row, k, df, loc, scale) -> None:
        self.inside, cov = inside, np.diag(scale**2)
        if not row.any():
            self.basis, self.law = np.eye(len(loc)), stats.multivariate_t(loc, cov, df)
            self.evidence, self.df, self.mean = 0.0, df, loc
            return
        row = row[None]
        size = (row @ cov @ row.T).item()
        gap = k - (row @ loc).item()
        self.mean = loc + cov @ row[0] * gap / size
        self.basis = null_space(row)
        self.df = df + 1
        factor = (df + gap**2 / size) / self.df
        left = self.basis.T @ (cov - cov @ row.T @ row @ cov / size) @ self.basis
        self.evidence = stats.t(df, (row @ loc).item(), np.sqrt(size)).logpdf(k)
        self.law = None
        if self.basis.shape[1]:
            self.law = stats.multivariate_t(self.basis.T @ self.mean, factor * left, self.df)

    def log_prob(self, x):
        if self.law is None:
            return np.zeros(len(x))
        return np.atleast_1d(self.law.logpdf(x[:, self.inside] @ self.basis))

    @property
    def covariance(self):
        if self.law is None:
            return np.zeros((1, 1))
        shape = self.basis @ self.law.shape @ self.basis.T
        return shape * self.df / (self.df - 2)

    @property
    def entropy(self):
        return 0.0 if self.law is None else float(self.law.entropy())


def groups_of(index, weights, k, df, loc, scale) -> list[Group]:
    """The groups that have members; ``k[g]`` is the sum of group g."""
    found = []
    for number in np.unique(index):
        inside = np.flatnonzero(index == number)
        own = loc[inside], scale[inside]
        found.append(Group(inside, weights[inside], k[number], df, *own))
    return found


class Field:
    """u ~ N(0, 1); x, two groups of two, with scales exp(u) ``scale``; y ~ N(x, noise^2).

    Given u a group has one coordinate, so that the posterior is a product of integrals over lines.
    """

    index, df, noise = np.array([0, 1, 0, 1]), 4.0, 0.5
    k, data = np.array([0.5, -1.0]), np.array([2.5, -0.2, -1.2, -1.3])
    loc, scale = np.array([0.2, -0.4, 0.1, 0.3]), np.array([0.5, 0.8, 1.0, 0.4])
    grid, line = np.linspace(-4.5, 4.5, 181), np.linspace(-25, 25, 5001)

    @cached_property
    def _pieces(self):
        """Log evidence ``(grid,)``, first and second moments ``(grid, 4)`` given u."""
        evidence = stats.norm.logpdf(self.grid)
        moments = np.zeros((2, len(self.grid), 4))
        for place, u in enumerate(self.grid):
            scale = np.exp(u) * self.scale
            for number, group in enumerate(
                groups_of(self.index, np.ones(4), self.k, self.df, self.loc, scale)
            ):
                x = 0.5 * self.k[number] + self.line[:, None] * group.basis[:, 0]
                score = group.law.logpdf(self.line[:, None])
                score = score + stats.norm.logpdf(x, self.data[group.inside], self.noise).sum(-1)
                weight = np.exp(score - score.max())
                total = integrate.simpson(weight, x=self.line)
                evidence[place] += np.log(total) + score.max()
                for power in (1, 2):
                    mean = integrate.simpson(weight[:, None] * x**power, x=self.line, axis=0)
                    moments[power - 1, place, group.inside] = mean / total
        return evidence, moments

    @cached_property
    def _weights(self):
        evidence, _ = self._pieces
        weight = np.exp(evidence - evidence.max())
        return weight / weight.sum()

    @property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Posterior means and standard deviations ``(5,)`` of u and x."""
        first, second = (np.tensordot(self._weights, m, 1) for m in self._pieces[1])
        u, squares = (self._weights @ self.grid**power for power in (1, 2))
        mean, square = np.append(u, first), np.append(squares, second)
        return mean, np.sqrt(square - mean**2)

    @property
    def log_evidence(self) -> float:
        return float(np.log(integrate.simpson(np.exp(self._pieces[0]), x=self.grid)))

    def p_values(self, u: np.ndarray, x: np.ndarray) -> list[float]:
        """Of one chain: draws ``(number,)`` and ``(number, 4)``."""
        mean, deviation = self.moments
        series = np.column_stack([u, x])
        # One of two coordinates of a group follows from the other.
        chosen = [0, 1, 2]
        return [of_chain_mean(series[:, i], mean[i], deviation[i]) for i in chosen]


FIELD = Field()
