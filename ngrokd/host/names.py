"""Which hostnames may be published and served. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from ngrokd.config import DEFAULT_INGRESS, ApiSettings

MAX_NAME = 253  # RFC 1035 section 2.3.4, without the final dot
MAX_LABEL = 63

# What nearly every name is, for lists of thousands; only others are looked at more closely.
_PLAIN = re.compile(r"(?!.{254})[a-z0-9]{1,63}(?:[.][a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?")

# inet_aton(3) takes `127.1` and `0x7f.1` for addresses, so no resolver ever asks for such a name.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# RFC 6761 section 6.3, and what distributions and macOS put into their hosts files for it.
_LOCAL_DOMAINS = ("localhost", "localdomain", "localdomain4", "localdomain6")
_LOCAL_NAMES = frozenset(
    (
        "localhost.local",
        "localhost4",
        "localhost6",
        "ip6-localhost",
        "ip6-loopback",
        "ip6-localnet",
        "ip6-mcastprefix",
        "ip6-allhosts",
        "ip6-allnodes",
        "ip6-allrouters",
        "broadcasthost",
    )
)

# systemd's nss-myhostname(8) and resolved answer for these on every machine that has them.
_SYSTEMDS_NAMES = frozenset(("_gateway", "_outbound", "_localdnsstub", "_localdnsproxy"))

# Other programs of this machine ask for them, too: never ours to answer for, even while this
# daemon is configured for another API or ingress.
_NGROKS_OWN = frozenset((ApiSettings.url.partition("://")[2], DEFAULT_INGRESS.partition(":")[0]))


class Rules:
    """What may be published or served on this machine. Made once for a list of thousands."""

    def __init__(self, reserved: Mapping[str, str], loops: Collection[str]) -> None:
        """`reserved`: names, in lower case, that this machine already has, and by what. `loops`:
        hosts the daemon itself must reach at ngrok."""
        self._reserved = reserved
        self._loops = _NGROKS_OWN.union(host.lower().rstrip(".") for host in loops)

    def refusal(self, hostname: str) -> str:
        """"" or why this name may not be published or served."""
        name = hostname
        if not _PLAIN.fullmatch(hostname):
            malformed = _malformed(hostname)
            if malformed:
                return malformed
            name = hostname.lower()
        last = name.rpartition(".")[2]
        if last[0].isdigit() and _NUMBER.fullmatch(last):
            return "it reads as an address, not as a name"
        if last in _LOCAL_DOMAINS or name in _LOCAL_NAMES:
            return "this name always means the machine itself"
        if name in _SYSTEMDS_NAMES:
            return "systemd gives this name a meaning of its own on every machine"
        if name in self._loops:
            return "ngrokd itself must reach ngrok under this name"
        if name in self._reserved:
            return f"this machine already has this name: {self._reserved[name]}"
        return ""


def _malformed(name: str) -> str:
    if not name:
        return "the name is empty"
    if ":" in name or name.startswith("["):
        return "it reads as an address, not as a name"
    if "*" in name:
        return "a wildcard cannot stand in a hosts file; bind the names one by one"
    if any(character.isspace() or not character.isprintable() for character in name):
        return "the name holds white space or control characters"
    if len(name) > MAX_NAME:
        return f"the name is longer than {MAX_NAME} characters"
    for label in name.split("."):
        if not label:
            return "the name has an empty label (two dots in a row, or one at an end)"
        if len(label) > MAX_LABEL:
            return f"a label of the name is longer than {MAX_LABEL} characters"
        if not _LABEL.fullmatch(label):
            return (
                "a name is made of letters, digits, hyphens and underscores, and no label of it "
                "starts or ends with a hyphen"
            )
    return ""
