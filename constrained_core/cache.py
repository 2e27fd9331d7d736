"""Plans are made once: a bounded memory, and what tells arrays apart."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

__all__ = ["ByContent", "Cache", "Content", "content"]

T = TypeVar("T")

SAMPLED = 61
"""Entries of an array that its hash looks at; equality looks at all."""


class Content:
    """An array as a key: equal where shape, dtype and bits are.

    It stands for what the array holds now. One that is kept needs a copy.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        flat = array.reshape(-1)
        few = flat[:: max(1, flat.size // SAMPLED)].tobytes()
        self._hash = hash((array.shape, array.dtype.str, few))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Content):
            return NotImplemented
        one, another = self._array, other._array
        if one.shape != another.shape or one.dtype != another.dtype:
            return False
        word = f"u{one.dtype.itemsize}"  # bits, so that NaN is NaN and -0.0 is not 0.0
        return bool((one.view(word) == another.view(word)).all())

    def kept(self) -> "Content":
        """The key of a copy, which nobody changes."""
        return Content(self._array.copy())


def content(argument: Any) -> Hashable:
    """A key of an array, for what it holds now; anything else is its own."""
    return Content(argument) if isinstance(argument, np.ndarray) else argument


def _kept(key: Hashable) -> Hashable:
    """The key with copies of its arrays, for as long as it is there."""
    if isinstance(key, Content):
        return key.kept()
    return tuple(map(_kept, key)) if isinstance(key, tuple) else key


class ByContent:
    """A frozen dataclass with arrays, equal and hashed by what they hold."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @cached_property
    def _content(self) -> tuple:
        parts = (getattr(self, name) for name in self.__dataclass_fields__)
        return tuple(part.tobytes() if isinstance(part, np.ndarray) else part for part in parts)

    @cached_property
    def _hash(self) -> int:
        return hash(self._content)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self is other or (hash(self) == hash(other) and self._content == other._content)

    def __getstate__(self) -> dict[str, Any]:
        # Hashes of bytes differ between processes.
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Cache(Generic[T]):
    """What was made from a key, the oldest forgotten first."""

    def __init__(self, max_entries: int) -> None:
        self._entries: OrderedDict[Hashable, tuple[Hashable, T]] = OrderedDict()
        self._max_entries = max_entries
        self._lock = threading.Lock()

    def find(self, key: Hashable) -> T | None:
        """What was made from an equal key, if it is still there."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            # By the key that is there: to compare an equal one again would read a whole array.
            own_key, made = entry
            self._entries.move_to_end(own_key)
            return made

    def put(self, key: Hashable, made: T) -> T:
        """Keep it, and return it."""
        with self._lock:
            self._entries.pop(key, None)
            self._entries[key] = key, made
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)
        return made

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made from an equal key, or is made and kept now."""
        found = self.find(key)
        if found is not None:
            return found
        key = _kept(key)  # first: while it is made, an array may change
        return self.put(key, make())
