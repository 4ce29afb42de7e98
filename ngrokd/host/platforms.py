"""What one platform has and others lack, outside of `netif/` and `service/`: constants with names.

Where the kernel or Python tells by itself what is there (`hasattr`, an errno), that is asked.
"""

from __future__ import annotations

import sys

Argv = tuple[str, ...]

DARWIN = "darwin"

# mDNSResponder keeps answers, also that there is none, and does not look whether /etc/hosts has
# changed since. Elsewhere every look-up reads the file, or the cache watches it (nscd, resolved).
_FLUSHES: dict[str, tuple[Argv, ...]] = {
    DARWIN: (("dscacheutil", "-flushcache"), ("killall", "-HUP", "mDNSResponder"))
}

# A limit that setrlimit(2) takes may still be more than the kernel gives to one process.
_DESCRIPTOR_LIMITS: dict[str, Argv] = {DARWIN: ("sysctl", "-n", "kern.maxfilesperproc")}


def resolver_flush(platform: str = sys.platform) -> tuple[Argv, ...]:
    """The commands after which the resolver reads the hosts file again; (): it does by itself."""
    return _FLUSHES.get(platform, ())


def descriptor_limit(platform: str = sys.platform) -> Argv:
    """The command that prints how many files a process may have open; (): its limit says it."""
    return _DESCRIPTOR_LIMITS.get(platform, ())
