"""A real terminal for tests: a program in tmux, what is on its screen, and keys for it."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Optional

from tests.shells import needed

LOOK_S = 0.5
PATIENCE_S = 30.0


class Terminal:
    """A terminal of tmux's, with a server of its own, told of every change by its control mode."""

    def __init__(self, folder: Path, columns: int = 80, lines: int = 24) -> None:
        self._folder = folder
        self._size = (columns, lines)
        self._unread = b""
        self._tmux = [needed("tmux"), "-S", str(folder / "tmux"), "-f", os.devnull]

    def __enter__(self) -> Terminal:
        columns, lines = map(str, self._size)
        # The shell stays when the program has ended, so that its last words can be read.
        shell = ["env", "PS1=shell> ", "ENV=", "sh"]
        began = [*self._tmux, "new-session", "-d", "-x", columns, "-y", lines, shlex.join(shell)]
        subprocess.run(
            [*began, ";", "set", "-g", "window-size", "manual"],
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            check=True,
            timeout=PATIENCE_S,
        )
        self._client = subprocess.Popen(
            [*self._tmux, "-u", "-C", "attach"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.until("shell>")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        assert self._client.stdin and self._client.stdout
        self._client.stdin.close()
        self._client.stdout.close()
        self._client.kill()  # without a server it has nothing more to say
        self._client.wait(PATIENCE_S)

    def close(self) -> None:
        """The terminal goes away, as when its window is closed."""
        subprocess.run(
            [*self._tmux, "kill-server"],
            check=False,  # it may have gone before
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE_S,
        )

    def run(self, argv: Sequence[str], env: Optional[Mapping[str, str]] = None) -> None:
        """Types a command, whose exit code the shell tells as `ended N`."""
        words = [f"{name}={shlex.quote(value)}" for name, value in (env or {}).items()]
        line = " ".join([*words, shlex.join(argv)])
        script = self._folder / "run"
        script.write_text(f"stty -g > before\n{line}\ncode=$?\nstty -g > after\necho ended $code\n")
        self.type(f"clear; cd {shlex.quote(str(self._folder))}; . ./run")
        self.press("Enter")

    def type(self, text: str) -> None:
        """Each letter as a key."""
        self._ask(f"send-keys -l -- {_quoted(text)}")

    def press(self, *keys: str) -> None:
        """Keys by tmux's names: Enter, Up, C-c, NPage."""
        self._ask("send-keys " + " ".join(map(_quoted, keys)))

    def resize(self, columns: int, lines: int) -> None:
        """The window gets another size, and its program SIGWINCH."""
        self._ask(f"resize-window -x {columns} -y {lines}")

    def shown(self, styled: bool = False) -> str:
        """What is on the screen, with the codes of colours and the like if `styled`."""
        return self._ask(f"capture-pane -p {'-e' if styled else ''}")

    def title(self) -> str:
        """What a program has made the terminal's title."""
        return self._ask("display-message -p '#{pane_title}'")

    def foreground(self) -> int:
        """The process that the terminal belongs to now, which the shell has begun."""
        shell = self._ask("display-message -p '#{pane_pid}'")
        fields = Path(f"/proc/{shell}/stat").read_text().rpartition(")")[2].split()
        return int(fields[5])  # tpgid, proc(5)

    def until(self, wanted: str, also: Callable[[str], bool] = lambda shown: True) -> str:
        """The screen once it shows this; fails with the screen if it never does."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            shown = self.shown()
            if wanted in shown and also(shown):
                return shown
            assert self._changed(deadline), f"no {wanted!r} on the screen:\n{shown}"

    def is_as_before(self) -> bool:
        """Whether the program left the settings of the terminal as they were."""
        before, after = (self._folder / name for name in ("before", "after"))
        return before.read_text() == after.read_text() != ""

    def _ask(self, command: str) -> str:
        assert self._client.stdin
        self._client.stdin.write(command.encode() + b"\n")
        self._client.stdin.flush()
        deadline = time.monotonic() + PATIENCE_S
        while True:
            words = self._line(deadline).split()
            if words[:1] == [b"%begin"] and words[-1] == b"1":  # 0: nothing that we asked
                break
        lines = []
        while not (line := self._line(deadline)).startswith((b"%end", b"%error")):
            lines.append(line.decode())
        assert line.startswith(b"%end"), (command, lines)
        return "\n".join(lines)

    def _changed(self, deadline: float) -> bool:
        """Whether there is time to look once more: when something was written, or after a moment.

        What was told while tmux was asked something else has been passed over.
        """
        look_at = min(deadline, time.monotonic() + LOOK_S)
        while time.monotonic() < look_at:
            line = self._line(look_at, or_nothing=True)
            if line.startswith((b"%output", b"%layout-change")):
                return True
        return time.monotonic() < deadline

    def _line(self, deadline: float, or_nothing: bool = False) -> bytes:
        assert self._client.stdout
        while b"\n" not in self._unread:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._client.stdout], [], [], left)[0]:
                assert or_nothing, "tmux does not answer"
                return b""
            data = os.read(self._client.stdout.fileno(), 65536)
            assert data, "tmux has ended"
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line


def _quoted(word: str) -> str:
    """For tmux's own parser."""
    return "'" + word.replace("'", "'\\''") + "'"
