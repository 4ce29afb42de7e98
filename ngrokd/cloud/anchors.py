"""Where the system's trust anchors are taken from: their folder, where that holds all of them.

OpenSSL reads the one file of anchors (`/etc/ssl/certs/ca-certificates.crt`) as a whole: 140
certificates, 1 MB and 20 ms for each TLS context. A folder in which every anchor is found by a hash
of its name is only looked into: what a handshake needs is read then. Distributions keep both, made
from the same list. But people add a CA of their own to the file alone, and some systems have no
such folder. So it is taken only if there are as many anchors in it as in the file, and nobody names
another place in the environment.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]{1,3}")  # as openssl-rehash(1) names them
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_BEGIN_TRUSTED = b"-----BEGIN TRUSTED CERTIFICATE-----"


def anchor_folder(paths: ssl.DefaultVerifyPaths, environ: Mapping[str, str]) -> Optional[str]:
    """The folder to look anchors up in; None: the defaults are to be loaded, file and folder."""
    named = (paths.openssl_cafile_env, paths.openssl_capath_env)
    if paths.cafile is None or paths.capath is None or any(name in environ for name in named):
        return None
    try:
        content = Path(paths.cafile).read_bytes()
        hashed = [each for each in Path(paths.capath).iterdir() if _HASHED.fullmatch(each.name)]
        found = sum(each.is_file() for each in hashed)
    except OSError:  # OpenSSL knows what to make of it
        return None
    listed = content.count(_BEGIN) + content.count(_BEGIN_TRUSTED)
    return paths.capath if listed and found == listed else None
