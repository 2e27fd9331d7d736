"""Copy tables of full runs into ``experiments/README.md``: ``python -m experiments.page``.

Between ``<!-- table NAME: HEADING; HEADING -->`` and ``<!-- end -->`` stand those columns of the
table in ``results/NAME.md``; with ``HEADING where COLUMN = VALUE -->`` only the lines that have it.
"""

import re
from pathlib import Path

import pandas as pd

from experiments.command import FULL_RESULTS

__all__ = ["PAGE", "refreshed"]

PAGE = Path(__file__).parent / "README.md"
BLOCK = re.compile(
    r"(<!-- table (?P<name>\w+): (?P<headings>[^\n]+?)"
    r"( where (?P<column>.+?) = (?P<value>.+?))? -->\n)"
    r".*?(?P<end><!-- end -->)",
    re.S,
)


def refreshed(page: str, results: Path = FULL_RESULTS) -> str:
    """The page with all its tables as the results have them.

    Raises:
        KeyError: a heading that the results do not have.
    """
    return BLOCK.sub(lambda found: _block(found, results), page)


def _block(found: re.Match[str], results: Path) -> str:
    table = _read(results / f"{found['name']}.md")
    if found["column"]:
        table = table[table[found["column"]] == found["value"]]
    shown = table[[heading.strip() for heading in found["headings"].split(";")]]
    return f"{found[1]}\n{shown.to_markdown(index=False, disable_numparse=True)}\n\n{found['end']}"


def _read(path: Path) -> pd.DataFrame:
    """The table of a page, cell by cell as text."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    heading, _, *body = ([cell.strip() for cell in line[1:-1].split("|")] for line in lines)
    return pd.DataFrame(body, columns=heading)


if __name__ == "__main__":
    PAGE.write_text(refreshed(PAGE.read_text()))
