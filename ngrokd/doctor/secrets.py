"""Which texts are secrets, in which forms they may stand, and what looks like one. Pure."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, unquote, urlsplit

_WORD = re.compile(r"[^\s\"'\[\]{},#]+")
# ngrok's keys and tokens: two long words and `_`. Its ids have a short word before theirs.
LIKE_A_KEY = re.compile(r"\b[0-9A-Za-z]{20,}_[0-9A-Za-z]{15,}\b", re.ASCII)
MAX_WORDS = 100  # of a configuration; each is looked for in a dozen forms
LEAST_WORD = 16  # characters; an API key has 49
_NO_SECRET = re.compile(  # a URL without a user, a path, a host or address with or without a port
    r"(?:[a-z][a-z0-9+.-]*://[^\s/@]*(?:/\S*)?|[~.]{0,2}/\S*|(?:[\w*-]+\.)+[\w-]+(?::\d+)?)[,;.:]?",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"(?i)key|token|secret|passw|credential")
_NAMES_A_FILE = re.compile(r"(?i)_FILE$|_DIR$|_PATH$")
_PROXY = re.compile(r"(?i)_proxy$")
_OF_KEYS = re.compile(r"[A-Za-z0-9+/=_-]{24,}")  # base64, as inside a PEM file

_BASE64_GROUP = 3  # bytes that become four letters


def forms(secret: str) -> Iterator[str]:
    """`secret` as it may stand in another text: escaped, or encoded, alone or within more.

    Of each the upper and the lower case are as good.
    """
    yield secret
    yield json.dumps(secret)[1:-1]
    yield repr(secret)[1:-1]
    for safe in ("", "/"):
        yield quote(secret, safe=safe)
    content = secret.encode("utf-8", "surrogateescape")
    yield content.hex()
    yield from _in_base64(content)


def in_any_case(known: Iterable[str], least: int) -> tuple[str, ...]:
    """Every form of these secrets that has `least` characters, for `without`."""
    found = {_lower(form.strip()) for secret in known for form in forms(secret)}
    # Longest first: one may be a part of another.
    return tuple(sorted((form for form in found if len(form) >= least), key=len, reverse=True))


def without(text: str, lowered: Iterable[str], mark: str) -> str:
    """`text` with `mark` in place of each of `in_any_case`: names of hosts lose their case on the
    way, and escapes like %2F have none of their own."""
    seen = _lower(text)
    for form in lowered:
        if form in seen:
            ends = [each.span() for each in re.finditer(re.escape(form), seen)]
            starts = (0, *(end for _, end in ends))
            stops = (*(start for start, _ in ends), len(text))
            text = mark.join(text[start:stop] for start, stop in zip(starts, stops))
            seen = _lower(text)
    return text


def of_variables(variables: Mapping[str, str]) -> Iterator[str]:
    """The values that are secrets, and the users and passwords of proxies."""
    for name, value in variables.items():
        if _PROXY.search(name):
            yield from of_url(value)
        elif _SECRET_NAME.search(name) and not _NAMES_A_FILE.search(name):
            yield value


def of_url(url: str) -> Iterator[str]:
    """What stands before its `@`, as it is and decoded; also where a `/` is not encoded there."""
    text = url.partition("://")[2] or url
    user, at, _ = text.rpartition("@")
    with contextlib.suppress(ValueError):
        at = at or ("@" if urlsplit(url).password else "")
    if at:
        name, colon, password = user.partition(":")
        found = (user, password) if colon else (name,)
        yield from dict.fromkeys((*found, *map(unquote, found)))


def of_config(text: str) -> Iterator[str]:
    """Words of a configuration that may be a key, in comments and in what is no YAML, too."""
    words = (word.strip(":") for word in _WORD.findall(text))
    odd = (word for word in words if len(word) >= LEAST_WORD and re.search("[0-9]", word))
    yield from itertools.islice((w for w in odd if not _NO_SECRET.fullmatch(w)), MAX_WORDS)


def of_pem(text: str) -> Iterator[str]:
    """The lines of a private key, each of which is one by itself; its last may be short."""
    lines = [line.strip() for line in text.splitlines()]
    yield from (line for line in lines if line and not line.startswith("-----"))


def blanked(text: str, mark: str) -> str:
    """`text` with `mark` in place of what looks like a secret by what stands before it."""
    for pattern in _PATTERNS:
        text = pattern.sub(lambda found: found[1] + mark, text)
    return text


def encoded(text: str) -> Iterator[str]:
    """Words of base64 that hold, decoded, what looks like an API key or is a private key."""
    for word in dict.fromkeys(_OF_KEYS.findall(text)):
        content = _decoded(word)
        is_key = content[:1] == b"\x30" and any(each in content[:64] for each in _KEY_ALGORITHMS)
        if is_key or b"PRIVATE KEY-----" in content or LIKE_A_KEY.search(content.decode("latin-1")):
            yield word


# AlgorithmIdentifier within PKCS #8 (RFC 5208) and SEC 1 (RFC 5915): version, then what it is for.
_KEY_ALGORITHMS = (
    bytes.fromhex("020100300d06092a864886f70d010101"),  # RSA
    bytes.fromhex("020100301306072a8648ce3d0201"),  # EC, any curve
    bytes.fromhex("0201010420"),  # an EC key alone
    bytes.fromhex("020100301006072a8648ce3d0201"),  # EC, P-384 and P-521
    bytes.fromhex("020100300506032b65"),  # Ed25519 and the like
)

_VALUE = r"(?:\"[^\"\n]+\"|'[^'\n]+'|[^\s\"',;}\]]+)"
_PATTERNS = (
    re.compile(r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?[A-Za-z]+\s+)[^\s\"',;]+"),
    re.compile(
        r"(?i)((?:api[_-]?key|auth[_-]?token|access[_-]?token|secret|passw(?:or)?d)[\"']?"
        r"(?:\s*[:=]\s*|\s+=?>?\s*(?=\S*[0-9])))(?!\[redacted\])" + _VALUE
    ),
    # A user without a password may be a token; a password may hold `/`, `:` and `@`.
    re.compile(r"(?i)(\bhttps?://[^\s/@:\"']*:)[^\s\"']+(?=@)"),
    re.compile(r"(?i)(\bhttps?://)[^\s/@\"':]+(?=@)"),
    re.compile(r"(?i)(_proxy=(?!\w+://)[^\s/@:]*:?)[^\s\"']+(?=@)"),
)


def _lower(text: str) -> str:
    """Of the same length: only this one letter would become two."""
    return text.replace("\u0130", "i").lower()


def _in_base64(content: bytes) -> Iterator[str]:
    """The letters that stand for it wherever it begins in what is encoded, without the edges."""
    for before in range(_BASE64_GROUP):
        encoded = base64.b64encode(bytes(before) + content).decode("ascii").rstrip("=")
        first = (0, 2, 3)[before]  # letters that hold bits of what stands before
        last = len(encoded) - (1 if (before + len(content)) % _BASE64_GROUP else 0)
        core = encoded[first:last]
        yield core
        yield core.replace("+", "-").replace("/", "_")


def _decoded(word: str) -> bytes:
    letters = word.rstrip("=").replace("-", "+").replace("_", "/")
    letters = letters[: len(letters) - len(letters) % 4] if len(letters) % 4 == 1 else letters
    with contextlib.suppress(ValueError):
        return base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True)
    return b""
