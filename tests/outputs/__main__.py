"""`make outputs`: writes every text anew; read what `git diff` shows of it."""

from __future__ import annotations

import sys

from tests.outputs.cases import CASES, ELSEWHERE, FOLDER, made


def main() -> int:
    """The exit code."""
    texts = {f"{name}.txt": made(name) for name in (*CASES, *ELSEWHERE)}
    for path in FOLDER.glob("*.txt"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(FOLDER.parent.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
