"""`make manuals`: writes every file that is made; with --check tells which are not current."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from docs.manuals import commandpage, pages, states
from ngrokd import cli
from ngrokd.control.arguments import Arguments
from ngrokd.control.completion.grammar import program

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
SCHEMA = "docs/ngrokctl.schema.json"


def made() -> dict[Path, str]:
    """Every file that is made, with what is to be in it."""
    sources = pages.Sources(
        ngrokd=program(cli.make_parser()),
        ngrokctl=program(Arguments().parser),
        templates={path.stem: path.read_text(encoding="utf-8") for path in HERE.glob("*.in")},
        configuration=(ROOT / "docs/configuration.md").read_text(encoding="utf-8"),
        commands=(ROOT / commandpage.PAGE).read_text(encoding="utf-8"),
        schema=json.loads((ROOT / SCHEMA).read_text(encoding="utf-8")),
    )
    identity = ROOT / states.PAGE
    return {
        **{ROOT / name: text for name, text in pages.files(sources).items()},
        identity: states.page(identity.read_text(encoding="utf-8")),
    }


def stale() -> list[str]:
    """Those that are not as they would be made now."""
    return [
        str(path.relative_to(ROOT))
        for path, text in made().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main(argv: Sequence[str]) -> int:
    """The exit code: 1 if something was not current and only a check was wanted."""
    found = stale()
    if "--check" in argv:
        for name in found:
            sys.stderr.write(f"{name} is not current: make manuals\n")
        return 1 if found else 0
    for path, text in made().items():
        if str(path.relative_to(ROOT)) in found:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
