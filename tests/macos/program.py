"""ngrokd's programs as the Python of macOS would run them: `program.py ngrokd WORDS`.

What Python itself needs is loaded before it is told that it is on macOS, for its own modules would
look for libraries of that system. ngrokd's modules see nothing else.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

# Those of the standard library that ask for the platform when they are loaded.
STANDARD = (
    *("asyncio", "ctypes", "ctypes.util", "http.client", "http.server", "logging.handlers"),
    *("multiprocessing", "platform", "selectors", "shutil", "signal", "ssl", "subprocess"),
    *("tempfile", "termios", "threading", "urllib.request", "uuid", "zipfile"),
)
MAINS = {"ngrokd": "ngrokd.__main__", "ngrokctl": "ngrokd.control.ctl"}
ROOT = Path(__file__).parent.parent.parent


def launcher(python: str, name: str) -> str:
    """The text of a program `ngrokd` or `ngrokctl`."""
    return (
        f"#!{python} -I\nimport sys\n\nsys.path.insert(0, {str(ROOT)!r})\n"
        f"from tests.macos import program\n\nsys.exit(program.main({name!r}))\n"
    )


def main(name: str) -> int:
    """The exit status."""
    for each in STANDARD:
        importlib.import_module(each)
    sys.platform = "darwin"
    run = importlib.import_module(MAINS[name]).main
    status: int = run()
    return status
