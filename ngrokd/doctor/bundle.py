"""A bundle for a bug report: one archive of texts, out of which every secret is taken. Pure.

Two nets, one behind the other: nothing is put in that is made to hold a secret, and out of what is
put in goes every secret that is known here or looks like one.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import tarfile
from collections.abc import Iterable, Mapping

from ngrokd.config import Config
from ngrokd.logs.redaction import REDACTED, Redactor

FOLDER = "ngrokd-bundle"
_PEM_MARK = "-----"
MODE = 0o600

# ngrok's keys and tokens: two long words and `_`. Its ids have a short word before theirs.
_LIKE_A_KEY = re.compile(r"\b[0-9A-Za-z]{20,}_[0-9A-Za-z]{15,}\b")
# The end of a private key whose beginning was cut off.
_TAIL_OF_KEY = re.compile(r"\A(?:(?!-----BEGIN).)*?(?=-----END [A-Z ]*PRIVATE KEY)", re.DOTALL)


class Scrubber:
    """Takes secrets out of texts. Owner: the only thread of ngrokctl."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """`secrets`: those that are known, each line of which is one by itself.

        But for those that begin and end a key: by them another key is recognised.
        """
        lines = (line for secret in secrets for line in secret.splitlines())
        self._redactor = Redactor(line for line in lines if not line.startswith(_PEM_MARK))

    def clean(self, text: str) -> str:
        """`text` with marks in place of them."""
        if _TAIL_OF_KEY.match(text):
            text = _TAIL_OF_KEY.sub(REDACTED, text, count=1)
        return _LIKE_A_KEY.sub(REDACTED, self._redactor.clean(text))


def configuration(config: Config) -> str:
    """What is in force, as JSON; of the key only whether there is one. The file itself stays out:
    in one that is broken a secret can stand anywhere."""
    shown = dataclasses.asdict(config)
    shown["api"]["key"] = REDACTED if config.api.key else ""
    return json.dumps(shown, indent=2, default=str) + "\n"


def archive(texts: Mapping[str, str], scrubber: Scrubber, now: float) -> bytes:
    """The texts by their names, as a tar.gz. `now`: Unix seconds."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in texts.items():
            content = scrubber.clean(text).encode("utf-8", "backslashreplace")
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size, entry.mode, entry.mtime = len(content), MODE, int(now)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
