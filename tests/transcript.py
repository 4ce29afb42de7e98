"""The examples of docs/commands.md and docs/sandbox.md: what real programs print of them now.

`python -m tests.transcript`, as root, writes those of the first anew; read what `git diff` shows.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from ngrokd.configfile import DEFAULT_TEXT
from tests.namespace import Namespace, why_not

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/commands.md"
SANDBOX_PAGE = ROOT / "docs/sandbox.md"
INSTALLED = "/usr/local/bin"  # where the examples say that the programs are
PORTS = ("--port", "4040", "--ingress-port", "4443")
WILDCARD = {"url": "tls://*.example"}  # an endpoint that no machine can serve
TIMEOUT_S = 90

_DEMO = ("/tmp/demo", "/srv/demo")  # the page's folder, and one that ends with the namespace

_OTHER = [
    (re.compile(pattern, re.MULTILINE), word)
    for pattern, word in (
        (r"^ngrokd: /\S+ is in a folder .*\n", ""),  # of the checkout from which this is run
        (r"\n\nNotes\n    ngrokd0 cannot be made of .*", ""),  # a kernel without dummy interfaces
        (r"\b(dummy|tun|bridge)\)$", "MODE)"),
        (r"\b(k8sop|ep|op)_[0-9a-f]+", r"\1_ID"),
        (r"config\.edit-[0-9a-f]+", "config.edit-ID"),
        (r"\b(?:[0-9A-F]{2}:){31}[0-9A-F]{2}\b", "SHA256"),
        (r"OpenSSL .*", "OpenSSL"),
        (r"^optional arguments:", "options:"),  # so did Python 3.9 say
        (r"\d[\d.]*", "0"),
        (r"[ \t]+", " "),
    )
]
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def blocks(page: str) -> list[str]:
    """What stands in the fences of the examples."""
    return _BLOCK.findall(page)


def commands(block: str) -> list[str]:
    """What is typed in one of them."""
    return [line for line, _ in examples(block)]


def examples(block: str) -> list[tuple[str, str]]:
    """What is typed, each with what is printed below it."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2]))


def likened(text: str) -> str:
    """Without what is other in each run or on another machine: numbers, ids, widths of columns."""
    for pattern, word in _OTHER:
        text = pattern.sub(word, text)
    return text


class Machine:
    """Namespaces with the stand-in cloud on fixed ports and a configuration that points at it."""

    def __init__(self, inside: Namespace) -> None:
        self._inside = inside
        self._bin = Path(sys.executable).parent

    def typed(self, line: str) -> str:
        """The command line with what it prints, as the page shows it."""
        return f"$ {line}\n{self.run(line)}"

    def run(self, line: str) -> str:
        """Both outputs of a shell's command line."""
        done = subprocess.run(
            self._inside.argv("sh", "-c", line),
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("NGROK")},
                "PATH": f"{self._bin}:{os.environ['PATH']}",
                "COLUMNS": "80",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.stdout.replace(str(self._bin), INSTALLED)

    def json(self, line: str) -> Any:
        """What one command prints with --json, and fails to print otherwise."""
        return json.loads(self.run(f"{line} --json"))


@contextmanager
def machine() -> Iterator[Machine]:
    """One on which no daemon runs yet; it ends with all that was started on it."""
    with _bare() as inside, _cloud(inside, "--dir", "/srv/cloud", *PORTS):
        _configure(inside)
        found = Machine(inside)
        try:
            yield found
        finally:
            found.run("ngrokd stop")


def sandbox_page(page: str) -> list[tuple[str, str, str]]:
    """The examples of docs/sandbox.md: what is typed, what is shown, and what it prints now."""
    first, *others = [each for block in blocks(page) for each in examples(block)]
    words = first[0].replace(*_DEMO).split()
    assert words[:2] == ["ngrokd", "sandbox"]
    found, variables = [], ""
    with _bare() as inside, _cloud(inside, *words[2:]) as printed:
        found.append((*first, printed))
        for line, shown in others:
            if re.fullmatch(r"\w+=\S+", line):
                variables += f"{line}; "
            else:
                now = Machine(inside).run(variables + line.partition("  #")[0].replace(*_DEMO))
                found.append((line, shown, now))
    return [(line, shown, now.replace(_DEMO[1], _DEMO[0])) for line, shown, now in found]


@contextmanager
def _bare() -> Iterator[Namespace]:
    with tempfile.TemporaryDirectory() as folder, Namespace(Path(folder)) as inside:
        for place in ("/run", "/srv", "/var/log", "/var/lib"):
            inside.run("mount", "-t", "tmpfs", "none", place)
        yield inside


@contextmanager
def _cloud(inside: Namespace, *words: str) -> Iterator[str]:
    """A sandbox that listens, and what it has printed."""
    program = Path(sys.executable).parent / "ngrokd"
    cloud = inside.popen(program, "sandbox", *words, stdout=subprocess.PIPE, text=True)
    try:
        assert cloud.stdout is not None
        printed = ""
        while "hosts_file" not in printed:  # the last line, written once everything listens
            line = cloud.stdout.readline()
            assert line, f"the sandbox ended: {printed}"
            printed += line
        yield printed
    finally:
        cloud.terminate()
        cloud.wait(timeout=TIMEOUT_S)


def _configure(inside: Namespace) -> None:
    text = DEFAULT_TEXT.replace("https://api.ngrok.com ", "http://127.0.0.1:4040 ")
    text = text.replace('key: ""', "key: sandbox-key", 1)
    text = text.replace('ca_file: ""', "ca_file: /srv/cloud/cloud/intermediate.crt")
    folder = inside.etc / "ngrokd"
    shutil.rmtree(folder, ignore_errors=True)  # of the copy: the machine may have one of its own
    folder.mkdir(mode=0o700)
    (folder / "config.yml").touch(mode=0o600)
    (folder / "config.yml").write_text(text, encoding="utf-8")
    api = "http://127.0.0.1:4040/sandbox/endpoints"
    inside.run("curl", "-sf", "--json", json.dumps(WILDCARD), api)


def played(page: str, on: Machine) -> str:
    """The page with all its examples as they are now, one after the other."""

    def block(found: re.Match[str]) -> str:
        return f"```console\n{''.join(map(on.typed, commands(found[1])))}```"

    return _BLOCK.sub(block, page)


def main() -> Optional[str]:
    """Why it cannot be done."""
    if why_not():
        return why_not()
    with machine() as on:
        text = played(PAGE.read_text(encoding="utf-8"), on)
    PAGE.write_text(text, encoding="utf-8")
    return None


if __name__ == "__main__":
    sys.exit(main())
