"""Has keys and signing requests made by a short-lived process, so that this one stays small.

`cryptography` takes 11 MB, a third of a daemon at rest, for something that is done once a year. So
`keys.py` is run as a program of its own by the same Python, which finds modules where we do. It
is told so explicitly, since `-I` (no environment, no user site, no current folder) and `-S` (no
site packages) leave it nothing but the standard library: that way it works from a checkout, a
virtual environment, and the private folder of `make install`.

Where no process can be started, or its answer cannot be used, the key is made in this process: a
machine must not stay unregistered for the sake of memory.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from ngrokd.cloud import keys
from ngrokd.errors import HostError, StateError

logger = logging.getLogger(__name__)

# Runs a command with a text on its standard input; what it printed. Raises HostError.
Run = Callable[[Sequence[str], str], str]

_LABELS = {"key": "PRIVATE KEY", "request": "CERTIFICATE REQUEST"}
_PEM = r"\s*-----BEGIN {0}-----\s[A-Za-z0-9+/=\s]+-----END {0}-----\s*"


class UnusableKey(Exception):
    """No signing request can be made of this key. Handler: it is put aside, a new one is made."""


@dataclass(frozen=True)
class Made:
    """A private key and its signing request, as PEM."""

    key: bytes = field(repr=False)
    request: str


class KeyMaker:
    """Owner: the main thread, which waits for the process: some 150 ms.

    Every method may raise StateError: this Python has no `cryptography`.
    """

    def __init__(self, run: Optional[Run] = None) -> None:
        """Without `run` everything is made in this process."""
        self._run = run

    def new(self) -> Made:
        """A new key."""
        return self._made("")

    def request(self, key: bytes) -> Made:
        """The request of a key that there is. UnusableKey: it has none."""
        try:
            text = key.decode("ascii")
        except UnicodeDecodeError as exc:
            raise UnusableKey("it is not PEM") from exc
        if not text:
            raise UnusableKey("it is empty")
        return self._made(text)

    def usable(self, key: bytes) -> bool:
        """This is a key that `request` takes."""
        try:
            self.request(key)
        except UnusableKey:
            return False
        return True

    def _made(self, key: str) -> Made:
        answer = self._asked(key)
        if answer is None:
            answer = _made_here(key)
        if "fault" in answer:
            raise UnusableKey(answer["fault"])
        return Made(answer["key"].encode(), answer["request"])

    def _asked(self, key: str) -> Optional[dict[str, str]]:
        """The other process's answer; None: there is none that can be used."""
        if self._run is None or not sys.executable:
            return None
        argv = (sys.executable, "-I", "-S", str(Path(keys.__file__).absolute()))
        # Without "", the current folder: the process has another one, and no business in ours.
        path = [str(Path(each).absolute()) for each in sys.path if each]
        question = json.dumps({"path": path, "key": key})
        try:
            return _understood(self._run(argv, question), key)
        except HostError as exc:
            reason = str(exc)
        except ValueError as exc:
            reason = f"what {argv[-1]} printed cannot be used: {exc}"
        logger.warning("the private key is made within ngrokd, which takes 11 MB more: %s", reason)
        return None


def _understood(printed: str, key: str) -> dict[str, str]:
    """ValueError: not what `keys.answer` gives. Its text repeats nothing of a key."""
    try:
        answer = json.loads(printed)
    except (ValueError, RecursionError) as exc:
        raise ValueError("it is not JSON") from exc
    if not isinstance(answer, dict):
        raise ValueError("it is not an object")
    if key and list(answer) == ["fault"] and isinstance(answer["fault"], str):
        return answer
    for name, label in _LABELS.items():
        text = answer.get(name)
        as_given = name == "key" and bool(key) and text == key  # older forms have other labels
        if not isinstance(text, str) or not (as_given or re.fullmatch(_PEM.format(label), text)):
            raise ValueError(f"there is no PEM {name} in it")
    if key and answer["key"] != key:
        raise ValueError("it is about another key")
    return answer


def _made_here(key: str) -> dict[str, str]:
    try:
        return keys.answer(key)
    except ImportError as exc:
        raise StateError(
            f"a private key cannot be made: {exc}; install cryptography for {sys.executable}"
            " (Debian: apt-get install python3-cryptography)"
        ) from exc
