"""Blanks secrets out of a text. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

REDACTED = "[redacted]"
MIN_SECRET_CHARACTERS = 8  # a shorter text is no secret, and blanking it out garbles every line

# What is known for a secret by its look, whoever let it into a message.
_PATTERNS = (
    (re.compile(r"(?i)\b(bearer)\s+\S+"), rf"\1 {REDACTED}"),
    (re.compile(r"://([^\s/@:]*):[^\s/@]+@"), rf"://\1:{REDACTED}@"),  # of a proxy's address
    (
        re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END|\Z)", re.DOTALL),
        rf"\1{REDACTED}\2",
    ),
)


class Redactor:
    """What must not be shown. Any thread: readers see the old or the new tuple."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: tuple[str, ...] = ()  # longest first: one may be a part of another
        for secret in secrets:
            self.keep(secret)

    def keep(self, secret: str) -> None:
        """From now on blanks this out, without white space around it. What is short is let be."""
        secret = secret.strip()
        if len(secret) >= MIN_SECRET_CHARACTERS:
            known = {*self._secrets, secret}
            self._secrets = tuple(sorted(known, key=len, reverse=True))

    def forget(self, secret: str) -> None:
        """Lets it be seen again: it turned out to be none."""
        secret = secret.strip()
        self._secrets = tuple(each for each in self._secrets if each != secret)

    def clean(self, text: str) -> str:
        """`text` without any secret. Before it is cut: half a secret is not recognised."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        for pattern, blank in _PATTERNS:
            text = pattern.sub(blank, text)
        return text
