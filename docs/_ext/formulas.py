"""The formula of every law, once: on its page by ``{formula} NAME`` and in the reference."""

from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

FORMULAS = {
    "ConstrainedMultivariateNormal": r"""
\begin{aligned}
x \mid A x = k &\sim \mathcal N(m, C), \\
m &= \mu + \Sigma A' (A \Sigma A')^{-1} (k - A \mu), \\
C &= \Sigma - \Sigma A' (A \Sigma A')^{-1} A \Sigma, \\
\log p(x) &= \log \mathcal N(x; \mu, \Sigma) - \log \mathcal N(k; A\mu, A\Sigma A')
  - \tfrac12 \log\det(A A')
\end{aligned}""",
    "ConstrainedNormal": r"""
\begin{aligned}
x_i &\sim \mathcal N(\mu_i, \sigma_i^2) \text{ independent, given } A x = k, \\
\mathrm E[x] &= \mu + D A' (A D A')^{-1} (k - A\mu), \qquad D = \mathrm{diag}(\sigma^2)
\end{aligned}""",
    "ConstrainedLowRankMultivariateNormal": r"""
x \sim \mathcal N(\mu,\; W W' + \mathrm{diag}(d)) \text{ given } A x = k""",
    "ConstrainedMultivariateStudentT": r"""
\begin{aligned}
x \mid A x = k &\sim t_{\nu + r}\!\left(m,\; \frac{\nu + s}{\nu + r}\, C\right), \\
s &= (k - A\mu)' (A L L' A')^{-1} (k - A\mu)
\end{aligned}""",
    "ConstrainedGMRF": r"""
\begin{aligned}
p(x) &\propto \exp\!\left(-\tfrac12 (x - \mu)' Q (x - \mu)\right) \text{ on } A x = k, \\
\log p(x) &= -\tfrac{n - r}{2} \log 2\pi
  + \tfrac12 \left(\log \lvert\det K\rvert - \log\det A A'\right)
  - \tfrac12 (x - m)' Q (x - m), \\
K &= \begin{pmatrix} Q & A' \\ A & 0 \end{pmatrix}
\end{aligned}""",
    "ConstrainedPoisson": r"""
\mathrm P(x \mid A x = k) = \frac{1}{Z(k)} \prod_i \frac{\lambda_i^{x_i}}{x_i!},
\qquad Z(k) = \sum_{A y = k,\; y \ge 0} \prod_i \frac{\lambda_i^{y_i}}{y_i!}""",
    "ConstrainedBernoulli": r"""
\mathrm P(x \mid A x = k) = \frac{\prod_i p_i^{x_i} (1 - p_i)^{1 - x_i}}{\mathrm P(A x = k)},
\qquad x \in \{0, 1\}^n""",
    "ConstrainedCategorical": r"""
\mathrm P(x \mid A x = k) = \frac{\prod_i p_{i x_i}}{\mathrm P(A x = k)},
\qquad x \in \{0, \dots, C - 1\}^n""",
    "LinearEqualityTransform": r"""
x = x_0 + N u, \qquad A x_0 = k,\; A N = 0, \qquad u \in \mathbb R^{n - r}""",
}


class Formula(SphinxDirective):
    """A displayed formula by the name of its class."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        text = FORMULAS[self.arguments[0]].strip()
        block = nodes.math_block(text, text, nowrap=False, number=None, label=None)
        self.set_source_info(block)
        return [block]


def add_formula(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Put the formula under the first sentence of a docstring."""
    text = FORMULAS.get(name.rpartition(".")[2]) if what == "class" else None
    if text is None:
        return
    end = lines.index("") if "" in lines else len(lines)
    lines[end:end] = ["", ".. math::", "", *(f"   {line}" for line in text.strip().split("\n")), ""]


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("formula", Formula)
    app.connect("autodoc-process-docstring", add_formula, priority=600)  # after napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
