"""How a benchmark starts this checkout's ngrokd, by the Python that users have."""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

_LAUNCHER = """\
import sys

# Before Debian's own packages, which may be older than what ngrokd asks for.
sys.path[:0] = {path!r}
sys.argv[0] = "ngrokd"
from ngrokd.cli import main

sys.exit(main())
"""


def write_launcher(folder: Path, python: str) -> Path:
    """The program for `python -I`; the code is compiled already."""
    packages = {sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")}
    launcher = folder / "launcher"
    launcher.write_text(_LAUNCHER.format(path=[str(ROOT), *sorted(packages)]))
    compile_all = [python, "-I", "-m", "compileall", "-q", str(ROOT / "ngrokd")]
    subprocess.run(compile_all, check=True)
    return launcher


def choose_python(args: argparse.Namespace) -> str:
    """What runs daemon and sandbox: as asked, else Debian's, else ours.

    The packages are those of this interpreter, and some are compiled: the version must be ours.
    """
    if args.python:
        return str(args.python)
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    debian = f"/usr/bin/python{ours}"
    return debian if Path(debian).exists() else sys.executable
