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
from ngrokd.doctor import secrets
from ngrokd.logs.redaction import MIN_SECRET_CHARACTERS, REDACTED, Redactor

FOLDER = "ngrokd-bundle"
MODE = 0o600

# The end of a private key whose beginning was cut off.
_TAIL_OF_KEY = re.compile(r"\A(?:(?!-----BEGIN).)*?(?=-----END [A-Z ]*PRIVATE KEY)", re.DOTALL)


class Scrubber:
    """Takes secrets out of texts. Owner: the only thread of ngrokctl."""

    def __init__(self, known: Iterable[str]) -> None:
        """`known`: secrets, each line of which is one by itself, in whatever form it stands.

        But for those that begin and end a key: by them another key is recognised.
        """
        lines = {line.strip() for secret in known for line in secrets.of_pem(secret)}
        self._known = sorted(line for line in lines if len(line) >= MIN_SECRET_CHARACTERS)
        self._forms = secrets.in_any_case(self._known, MIN_SECRET_CHARACTERS)
        self._redactor = Redactor()

    def clean(self, text: str) -> str:
        """`text` with marks in place of them."""
        if _TAIL_OF_KEY.match(text):
            text = _TAIL_OF_KEY.sub(REDACTED, text, count=1)
        # First: of a password with an `@` in it, the rest would no longer be seen as one.
        text = secrets.without(secrets.blanked(text, REDACTED), self._forms, REDACTED)
        text = self._redactor.clean(text)
        text = secrets.LIKE_A_KEY.sub(REDACTED, text)
        for word in secrets.encoded(text):
            text = text.replace(word, REDACTED)
        return text


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
