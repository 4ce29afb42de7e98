"""A pure function that is not worked out anew when it is asked the same again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Optional, TypeVar

Result = TypeVar("Result")


class Latest(Generic[Result]):
    """Owner: main thread. Most polls find thousands of endpoints just as they were.

    What it is asked is kept for the comparison, so nobody may change it afterwards.
    """

    def __init__(self, function: Callable[..., Result]) -> None:
        self._function = function
        self._asked: Optional[tuple[Any, ...]] = None
        self._result: Optional[Result] = None

    def __call__(self, *asked: Any) -> Result:
        """What the function gives; the very same value as last time if nothing is different."""
        if self._result is None or asked != self._asked:
            self._result = self._function(*asked)
        self._asked = asked  # also what was only equal: the same objects compare at once
        return self._result

    def knows(self, *asked: Any) -> None:
        """Asked this, it would give what it gave last, which therefore need not be worked out."""
        self._asked = asked
