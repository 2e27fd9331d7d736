"""How much Python runs, counted and not timed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["no_long_loop"]


@contextmanager
def no_long_loop(most: int = 50_000) -> Iterator[None]:
    """At most so many lines of functions are run inside; imports may take some thousands."""
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
    assert count <= most
