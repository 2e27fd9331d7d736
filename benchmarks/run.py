"""Measure all contests of both backends; print the table and write ``benchmarks/results``.

Run ``make bench``, or ``make bench ARGS='--backend pyro --seconds 1'``.
"""

import argparse
import importlib
import platform
from collections.abc import Iterable
from datetime import date
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import dp_cost, fiber_walk
from benchmarks.memory import peak_mib
from benchmarks.problems import diagonal
from benchmarks.sparse_growth import save_growth
from benchmarks.timing import Contest, Row, measure

RESULTS = Path(__file__).parent / "results"
HEADER = ("law given A x = k", "size", "against", "ours ms", "rival ms", "ratio", "promised")
NOTE = """Build + draw + log_prob + backward to all parameters, float32, the same A at every step;
medians of interleaved runs in one process. Lines of "exactly k" do what they say, on a batch of 64;
their gradient is that of log P(A x = k). Ratio: median over pairs of our time over the rival's.
"""
SPARSE_NOTE = """Sparse laws in double precision, a new scale or precision at every step; medians of
interleaved runs in one process. The network: build + draw + log_prob + backward, on a made-up
pattern of the size of the metabolic model iJO1366. The fields: new values of Q, no gradient but
where it says so; "SuperLU of Q alone" orders and factors Q by the same solver, while ours keeps the
order. GaussianMarkovRandomFields.jl 0.14 gives 2.2 s and 6.4 s for 16,000 nodes and 400 sums, on
another machine.
"""


def _cells(row: Row) -> tuple[str, ...]:
    contest = row.contest
    promises = contest.promise, contest.limit_ms
    forms = zip(promises, ("{:.1f}", "{:.0f} ms"), strict=True)
    promised = ", ".join(form.format(value) for value, form in forms if value is not None)
    times = f"{row.ours_ms:.3g}", f"{row.rival_ms:.3g}", f"{row.ratio:.2f}"
    return contest.law, contest.size, contest.rival, *times, promised


def _memory_lines(module) -> list[str]:
    """Peak memory of the largest diagonal problems."""
    lines = ["| problem | peak of the process, MiB | added by the step, MiB |", "|---|---|---|"]
    problems = {
        "ConstrainedNormal, n = 10^6, m = 1": (partial(module._diagonal, 10**6, 1), 0),
        "ConstrainedNormal, n = 10^6, m = 10": (partial(module._diagonal, 10**6, 10), 0),
        "ConstrainedNormal, n = 10^6, 10^5 groups": (partial(module._groups, 10**6, diagonal), 0),
        "Normal, n = 10^6": (partial(module._diagonal, 10**6, 1), 1),
    }
    for name, (make, which) in problems.items():
        peak, added = peak_mib(make, which)
        lines.append(f"| {name} | {peak:.0f} | {added:.0f} |")
    return lines


def _markdown(title: str, rows: Iterable[Row], memory: list[str], note: str = NOTE) -> str:
    lines = [f"# {title}", "", note, f"{date.today()}, {platform.machine()}, 2 cores", ""]
    lines += ["| " + " | ".join(HEADER) + " |", "|---" * len(HEADER) + "|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join([*lines, "", *memory, ""])


def _show(console: Console, backend: str, rows: Iterable[Row]) -> None:
    table = Table(*HEADER, title=backend)
    for row in rows:
        table.add_row(*_cells(row), style="" if row.is_kept else "yellow")
    console.print(table)


def run(backend: str, args: argparse.Namespace, console: Console) -> None:
    """Measure one backend and write its table."""
    module = importlib.import_module(f"benchmarks.{backend}_contests")
    discrete = importlib.import_module(f"benchmarks.{backend}_discrete_contests")
    every: list[Contest] = [*module.contests(args.largest_dense), *discrete.contests()]
    chosen = [c for c in every if args.only in f"{c.law} {c.size} {c.rival}"]
    rows = [measure(c, args.seconds) for c in track(chosen, description=backend, console=console)]
    _show(console, backend, rows)
    if not args.only:
        RESULTS.mkdir(exist_ok=True)
        memory = [] if args.no_memory else _memory_lines(module)
        (RESULTS / f"{backend}.md").write_text(_markdown(backend, rows, memory))


def run_sparse(backend: str, args: argparse.Namespace, console: Console) -> None:
    """Measure the sparse laws of one backend, in double precision, and write their table."""
    if backend == "numpyro":
        importlib.import_module("numpyro").enable_x64()
    module = importlib.import_module(f"benchmarks.{backend}_sparse_contests")
    chosen = [c for c in module.contests() if args.only in f"{c.law} {c.size} {c.rival}"]
    rows = [measure(c, args.seconds) for c in track(chosen, description=backend, console=console)]
    _show(console, f"{backend}, sparse", rows)
    if not args.only:
        page = _markdown(f"{backend}, sparse", rows, [], SPARSE_NOTE)
        (RESULTS / f"{backend}_sparse.md").write_text(page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=["pyro", "numpyro", "both"], default="both")
    parser.add_argument("--seconds", type=float, default=5.0, help="per line of the table")
    parser.add_argument("--only", default="", help="lines that contain this text; writes nothing")
    parser.add_argument("--largest-dense", type=int, default=4000, help="largest dense covariance")
    parser.add_argument("--sparse", action="store_true", help="the sparse laws alone")
    parser.add_argument("--no-memory", action="store_true", help="skip the peak memory")
    args = parser.parse_args()
    console = Console()
    backends = ["pyro", "numpyro"] if args.backend == "both" else [args.backend]
    if not args.sparse:
        for backend in backends:
            run(backend, args, console)
    for backend in backends:  # last: from here on JAX computes in double precision
        run_sparse(backend, args, console)
    if not args.only:
        save_growth(RESULTS, backends)
    if not (args.only or args.sparse):
        dp_cost.save_picture(RESULTS / "dp_cost.png", backends, args.seconds)
        fiber_walk.save_table(RESULTS / "fiber_walk.md", backends)


if __name__ == "__main__":
    main()
