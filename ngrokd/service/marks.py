"""The line by which a file that `ngrokd install` wrote is known again, changed or not."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Optional

_TEXT = (
    b"written by `ngrokd install`, and left alone once it is changed: "
    b"sha256=%s config=%s folders=%s"
)
_MARK = re.compile(
    rb"^(?:# |\.\\\" |<!-- )written by `ngrokd install`, and left alone once it is changed: "
    rb"sha256=([0-9a-f]{64}) config=(\S*) folders=(\S*)(?: -->)?\n",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Marked:
    """A file of ours as it was found."""

    body: bytes  # without the mark
    digest: str  # of the body as it was installed
    config: str  # the configuration file that the service is for
    folders: tuple[str, ...]  # that were made for this file

    @property
    def changed(self) -> bool:
        """Somebody edited it since."""
        return digest_of(self.body) != self.digest


def digest_of(body: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(body).hexdigest()


def stamped(body: bytes, path: str, config: str, folders: tuple[str, ...] = ()) -> bytes:
    """`body` with a mark, in a comment of the language that the name of the file tells."""
    if not body.endswith(b"\n"):
        body += b"\n"
    said = (digest_of(body).encode(), config.encode(), ":".join(folders).encode())
    text = _TEXT % said
    if path.endswith(".plist"):
        head, tag, rest = body.partition(b"<plist")
        return head + b"<!-- " + text + b" -->\n" + tag + rest
    comment = b'.\\" ' if re.search(r"\.[0-9]$", path) else b"# "
    return body + comment + text + b"\n"


def read(content: bytes) -> Optional[Marked]:
    """None: it has no mark, so it is not ours."""
    found = _MARK.search(content)
    if not found:
        return None
    digest, config, folders = (group.decode("utf-8", "replace") for group in found.groups())
    body = content[: found.start()] + content[found.end() :]
    return Marked(body, digest, config, tuple(filter(None, folders.split(":"))))
