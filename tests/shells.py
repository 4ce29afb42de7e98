"""Real shells that are asked what they would complete: a line is typed, Tab is pressed."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

PATIENCE_S = 20.0
_END = "<end>"
_DISCARD_LINE = b"\x15"  # Ctrl-U

# Notes what the function offers, and inserts nothing.
_BASH = r"""
PS1=
%(before)s
source "$SCRIPT"
note() {
    _ngrokd "$@"
    printf '%%s\n' "${COMPREPLY[@]}" '<end>' >"$FOUND"
    COMPREPLY=()
}
complete -F note ngrokd ngrokctl
"""

# Notes what each call of compadd offers; those that only sort (-O, -A, -D) are not for people.
_ZSH = r"""
PS1=
autoload -Uz compinit
%(before)s
compinit -u -D
%(source)s
bindkey -e
bindkey '^I' complete-word
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
    local -a hits
    builtin compadd -A hits "$@"
    (( ! $#hits )) || print -rl -- $hits >$FOUND
    builtin compadd "$@"
}
finish() { comppostfuncs=(finish) compstate[insert]= compstate[list]=; print -r -- '<end>' >$FOUND }
comppostfuncs=(finish)
"""


class Shell:
    """One shell with a completion script; `ask` it, and `close` it."""

    def ask(self, line: str) -> set[str]:
        """What is offered at the end of `line`."""
        raise NotImplementedError

    def close(self) -> None:
        """It is asked no more."""


class Fish(Shell):
    """Tells without a terminal."""

    def __init__(self, script: Path, env: Mapping[str, str], folder: Path) -> None:
        needed("fish")
        self._env = {**_environment(env, folder), "SCRIPT": str(script)}

    def ask(self, line: str) -> set[str]:
        result = subprocess.run(
            ["fish", "--no-config", "-c", 'source $SCRIPT; complete -C "$LINE"'],
            env={**self._env, "LINE": line},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
        assert result.stderr == ""
        return {offered.split("\t")[0] for offered in result.stdout.splitlines()}


class _Typed(Shell):
    """A shell at a terminal, which notes what it offers in a pipe."""

    def __init__(self, argv: list[str], env: Mapping[str, str], folder: Path) -> None:
        needed(argv[0])
        pipe = folder / "found"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        self._found = os.open(pipe, os.O_RDWR)  # no end of data between two writers
        environment = {**_environment(env, folder), "FOUND": str(pipe)}
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(folder)
            os.execvpe(argv[0], argv, environment)

    def ask(self, line: str) -> set[str]:
        os.write(self._terminal, _DISCARD_LINE + line.encode() + b"\t")
        noted = shown = b""
        deadline = time.monotonic() + PATIENCE_S
        while not noted.endswith(f"{_END}\n".encode()):
            left = deadline - time.monotonic()
            ready = select.select([self._found, self._terminal], [], [], max(0.0, left))[0]
            assert ready, shown
            if self._terminal in ready:
                shown += os.read(self._terminal, 4096)
            if self._found in ready:
                noted += os.read(self._found, 65536)
        return {word for word in noted.decode().splitlines()[:-1] if word}

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)
        os.close(self._found)


class Bash(_Typed):
    """`before` runs before the script is sourced."""

    def __init__(
        self, script: Path, env: Mapping[str, str], folder: Path, before: str = ""
    ) -> None:
        start = folder / "bashrc"
        start.write_text(_BASH % {"before": before})
        argv = ["bash", "--noprofile", "--rcfile", str(start), "-i"]
        super().__init__(argv, {**env, "SCRIPT": str(script)}, folder)


class Zsh(_Typed):
    """`before`: instead of sourcing the script, it finds it."""

    def __init__(
        self, script: Path, env: Mapping[str, str], folder: Path, before: str = ""
    ) -> None:
        source = "" if before else 'source "$SCRIPT"'
        (folder / ".zshrc").write_text(_ZSH % {"before": before, "source": source})
        named = {**env, "SCRIPT": str(script), "ZDOTDIR": str(folder)}
        # -d: none of the system's own start files, which on Debian run compinit with a dump.
        super().__init__(["zsh", "-d", "-i"], named, folder)


def needed(program: str) -> str:
    """Its path; skips the test if there is none."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def _environment(env: Mapping[str, str], folder: Path) -> dict[str, str]:
    plain = {"HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]}
    return {**plain, **env}
