"""A title and lines of label and text, as the shell and as a notebook shows them."""

import textwrap
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

__all__ = ["SHOWN", "Line", "as_html", "as_text", "listed", "plural"]

WIDTH = 100
LABEL = 15
SHOWN = 6
"""Items of a list that are written out."""

# Colours are shades of the page's own, so that the card reads on light and on dark ones.
TABLE = "border-collapse:collapse;border:1px solid rgba(128,128,128,.5);margin:.4em 0"
TITLE = "text-align:left;padding:.4em .8em;font-weight:600;background:rgba(128,128,128,.15)"
NAME = (
    "text-align:left;vertical-align:top;white-space:nowrap;font-weight:normal;opacity:.75;"
    "padding:.15em .8em;background:transparent"
)
TEXT = "text-align:left;vertical-align:top;padding:.15em .8em;background:transparent"


class Line(NamedTuple):
    """One fact; several paragraphs are parted by line breaks."""

    label: str
    text: str


def as_text(title: str, lines: Sequence[Line]) -> str:
    """Lines under a title, wrapped."""
    return "\n".join([title, *(_wrapped(line) for line in lines)])


def _wrapped(line: Line) -> str:
    label, indent = f"  {line.label:<{LABEL - 3}} ", " " * LABEL
    first, *others = line.text.split("\n")
    parts = [_filled(label, indent, first), *(_filled(indent, indent, part) for part in others)]
    return "\n".join(parts)


def _filled(start: str, indent: str, text: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=start, subsequent_indent=indent, break_on_hyphens=False
    )


def as_html(title: str, lines: Sequence[Line]) -> str:
    """A table that needs nothing else: no script, no style sheet, no colours of its own."""
    rows = "".join(
        f'<tr><th scope="row" style="{NAME}">{escape(label)}</th>'
        f'<td style="{TEXT}">{"<br>".join(map(escape, text.split(chr(10))))}</td></tr>'
        for label, text in lines
    )
    head = f'<thead><tr><th colspan="2" style="{TITLE}">{escape(title)}</th></tr></thead>'
    return f'<table style="{TABLE}">{head}<tbody>{rows}</tbody></table>'


def listed(items: Sequence[object]) -> str:
    """The first items, and how many more there are."""
    shown = ", ".join(map(str, items[:SHOWN]))
    return shown if len(items) <= SHOWN else f"{shown} and {len(items) - SHOWN:,} more"


def plural(count: int, noun: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
