"""What the tests of the log share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ngrokd import logs
from ngrokd.config import ServerSettings

SECRET = "2abcDEFghiJKLmnoPQRstu_5678"

logger = logging.getLogger("ngrokd.test")


@contextmanager
def root_put_back() -> Iterator[None]:
    """The root logger as it was, so that other tests keep theirs."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)


def to_file(folder: Path, log_format: str = "text") -> Path:
    path = folder / "ngrokd.log"
    logs.setup(ServerSettings(log_file=str(path), log_format=log_format), False, {})
    return path


def end() -> None:
    """As at the end of the process: what was counted is told."""
    for handler in logging.getLogger().handlers:
        handler.flush()


def messages(path: Path) -> list[str]:
    """The lines of text without their time."""
    return [line.split(" ", 1)[1] for line in path.read_text().splitlines()]
