"""The diagram in docs/identity.md, made of the table that the daemon goes by."""

from __future__ import annotations

import re

from ngrokd.cloud.registration import diagram

PAGE = "docs/identity.md"
_PLACE = re.compile(r"(?<=```mermaid\n).*?(?=```\n)", re.DOTALL)


def page(text: str) -> str:
    """The page with the diagram as it is now."""
    return _PLACE.sub(lambda _: diagram(), text, count=1)
