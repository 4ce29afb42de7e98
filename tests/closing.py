"""What is closed at the end of a `with`, however that ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

Itself = TypeVar("Itself", bound="Closing")


class Closing(ABC):
    """Something of a test that has to be ended."""

    @abstractmethod
    def close(self) -> None:
        """Ends it."""

    def __enter__(self: Itself) -> Itself:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
