"""Reading the templates of the manual pages. Pure."""

from __future__ import annotations

from collections.abc import Iterator


class Unknown(Exception):
    """A template asks for what there is not. Handler: the person who wrote it is told."""


def without_more(template: str) -> tuple[dict[str, str], list[str]]:
    """The blocks between `@more COMMAND` and `@end`, and the other lines."""
    more: dict[str, str] = {}
    rest: list[str] = []
    lines: Iterator[str] = iter(template.rstrip("\n").split("\n"))
    for text in lines:
        if not text.startswith("@more "):
            rest.append(text)
            continue
        block: list[str] = []
        for inner in lines:
            if inner == "@end":
                break
            block.append(inner)
        else:
            raise Unknown(f"{text}: there is no @end")
        more[text[len("@more ") :]] = "\n".join(block)
    return more, rest
