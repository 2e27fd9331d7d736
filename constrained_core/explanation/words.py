"""The facts of an explanation in words."""

import numpy as np

from constrained_core.explanation.card import SHOWN, Line, plural
from constrained_core.explanation.facts import ConstraintFacts
from constrained_core.explanation.rows import fill
from constrained_core.linear.sparse_plan import SparsePlan

__all__ = ["lines_of"]


def lines_of(found: ConstraintFacts) -> list[Line]:
    """Every fact, the general ones first."""
    lines = [
        Line("rank", _rank(found)),
        Line("redundant", _redundant(found)),
        Line("k", _sides(found)),
        Line("determined", _determined(found)),
        Line("blocks", _blocks(found)),
        Line("structure", _structure(found)),
        Line("scales", _scales(found)),
        Line("methods", "\n".join(f"{law}: {how}" for law, how in found.methods.items())),
    ]
    lines += [Line(law.law.removeprefix("Constrained"), law.text) for law in found.laws]
    return lines + [Line("note", note) for note in found.notes]


def _rank(found: ConstraintFacts) -> str:
    m, n = found.shape
    free = plural(found.free_size, "dimension")
    point = ": a single point" if found.free_size == 0 and n else ""
    return f"{found.rank:,} of {plural(m, 'row')}; x has {free} left{point}"


def _redundant(found: ConstraintFacts) -> str:
    rows = found.redundant_rows.tolist()
    shown = [f"row {row} = {_sum(found.follows_from(row))}" for row in rows[:SHOWN]]
    if len(rows) > SHOWN:
        shown.append(f"and {plural(len(rows) - SHOWN, 'row')} more")
    return "\n".join(shown) or "no row"


def _sum(coefficients: dict[int, float]) -> str:
    """``row 0 - 2 row 3``."""
    terms = [_term(*pair) for pair in list(coefficients.items())[:SHOWN]]
    if len(coefficients) > SHOWN:
        terms.append(f"+ {plural(len(coefficients) - SHOWN, 'more row')}")
    text = " ".join(terms).removeprefix("+ ") or "0"
    return "-" + text[2:] if text.startswith("- ") else text


def _term(row: int, size: float) -> str:
    factor = f"{abs(size):.6g} ".removeprefix("1 ")
    return f"{'-' if size < 0 else '+'} {factor}row {row}"


def _sides(found: ConstraintFacts) -> str:
    if found.k is None:
        return "not given"
    if found.disagreement is not None:
        return found.disagreement
    return "agrees with the redundant rows" if len(found.redundant_rows) else "any k will do"


def _determined(found: ConstraintFacts) -> str:
    which, values = found.determined[:SHOWN].tolist(), found.determined_values
    names = [f"x[{i}]" for i in which]
    if values is not None and values.ndim == 1:
        names = [f"{name} = {v:.6g}" for name, v in zip(names, values.tolist(), strict=False)]
    if len(found.determined) > SHOWN:
        names.append(f"and {len(found.determined) - SHOWN:,} more")
    return ", ".join(names) or "no variable"


def _blocks(found: ConstraintFacts) -> str:
    """How many blocks there are of each size; determined variables are told of already."""
    shared = found.block_sizes[found.block_sizes[:, 1] > 1]
    kinds, counts = np.unique(shared, axis=0, return_counts=True)
    order = np.lexsort((kinds[:, 0], kinds[:, 1]))[::-1]
    names = [_block(kinds[i], counts[i]) for i in order[:SHOWN]]
    if len(order) > SHOWN:
        names.append(f"{plural(int(counts[order[SHOWN:]].sum()), 'block')} of other sizes")
    untouched = int((found.blocks < 0).sum())
    if untouched:
        names.append(f"{plural(untouched, 'variable')} in no row")
    return "; ".join(names) or "no variables that depend on each other"


def _block(kind: np.ndarray, count: int) -> str:
    rows, variables = kind
    return (
        f"{plural(count, 'block')} of {plural(variables, 'variable')} under {plural(rows, 'row')}"
    )


def _structure(found: ConstraintFacts) -> str:
    if not isinstance(found.plan, SparsePlan) or found.rank == 0:
        return found.structure
    entries, late = fill(found.plan)
    size = f"[[I, A'], [A, 0]] has a factor of {entries:,} entries"
    return f"{found.structure}; {size}" + (f"; {late:,} indices come last, dense" if late else "")


def _scales(found: ConstraintFacts) -> str:
    norms = found.row_norms[found.plan.kept]
    if not len(norms):
        return "no row"
    least, largest = f"{norms.min():.4g}", f"{norms.max():.4g}"
    sizes = f"rows of length {least}" + ("" if least == largest else f" to {largest}")
    if found.condition is None:
        return sizes
    return f"{sizes}; scaled to about one, their condition number is {found.condition:.3g}"
