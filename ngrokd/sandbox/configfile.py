"""The file of `--config-out`: there, and whole, exactly while the sandbox serves."""

from __future__ import annotations

from pathlib import Path

from ngrokd.errors import StateError
from ngrokd.sandbox.store import write_file

FIRST_LINE = "# A stand-in ngrok cloud is running. It lists these endpoints:"


class ConfigFile:
    """Scripts wait for it to appear, so a stale one must not be there. Owner: main.

    Only a file that begins with `FIRST_LINE` is ever replaced or removed: the path may by mistake
    be that of somebody's real configuration.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._content = b""

    def prepare(self) -> None:
        """Removes what a killed sandbox left. Raises StateError if the file cannot be ours."""
        if not self._path.parent.is_dir():
            raise StateError(f"{self._path} cannot be written: its folder does not exist")
        if not self._path.exists() and not self._path.is_symlink():
            return
        if not self._begins_as_ours():
            raise StateError(
                f"{self._path} is there and was not written by a sandbox: name another"
            )
        self._remove()

    def write(self, text: str) -> None:
        """Makes it appear, whole, readable by its owner alone."""
        self._content = text.encode()
        write_file(self._path, self._content)

    def withdraw(self) -> None:
        """Removes it unless it was changed since, or belongs to a later sandbox."""
        try:
            ours = bool(self._content) and self._path.read_bytes() == self._content
        except OSError:
            return  # gone, or no longer to be read by us
        if ours:
            self._remove()

    def _begins_as_ours(self) -> bool:
        if self._path.is_symlink() or not self._path.is_file():
            return False
        try:
            with self._path.open("rb") as file:
                return file.read(len(FIRST_LINE)) == FIRST_LINE.encode()
        except OSError as exc:
            raise StateError(f"{self._path} cannot be read: {exc.strerror}") from exc

    def _remove(self) -> None:
        try:
            self._path.unlink()
        except FileNotFoundError:
            pass  # somebody was faster
        except OSError as exc:
            raise StateError(f"{self._path} cannot be removed: {exc.strerror}") from exc
