"""Giving up the rights of root that the daemon does not need.

A fault in TLS or JSON code is then not root's. Capabilities belong to a thread and are inherited by
the threads and commands it starts later, so this comes before the first of them.

What is there is read from /proc; ctypes is loaded only where something is to be given up: under a
unit that starts the daemon with no more than it needs, it costs nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional

from ngrokd.errors import HostError

if TYPE_CHECKING:
    import ctypes

logger = logging.getLogger(__name__)

# Bits of linux/capability.h, and what each is for.
CHOWN = 1 << 0  # the socket's group, and the owner of a file that is replaced
DAC_OVERRIDE = 1 << 1  # /etc/hosts, state, socket and log in folders of other owners
NET_BIND_SERVICE = 1 << 10  # endpoints on ports below 1024
NET_ADMIN = 1 << 12  # the interface and its addresses
NEEDED = CHOWN | DAC_OVERRIDE | NET_BIND_SERVICE | NET_ADMIN

STATUS = Path("/proc/self/status")

_CAPABILITIES = 64  # there is room for so many; the kernel refuses those it does not know

# linux/prctl.h
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_VERSION_3 = 0x20080522  # of capset(2): each set in two words of 32 bits
_WORD = 0xFFFFFFFF


MEND = (
    "Mend: allow prctl and capset in the container's seccomp profile, or start ngrokd with "
    "`setpriv --no-new-privs --inh-caps=-all "
    "--bounding-set=-all,+chown,+dac_override,+net_bind_service,+net_admin`"
)


@dataclass(frozen=True)
class Rights:
    """The sets of capabilities of one thread, as bits, and whether a program can add to them."""

    inheritable: int
    permitted: int
    effective: int
    bounding: int
    no_new_privs: bool


def keep_only_needed() -> tuple[str, ...]:
    """Gives up all but `NEEDED`, for good; what could not be given up, with the mend.

    Call on the main thread, after the fork and before any other thread. A right that is not there
    to begin with is not missed. A user other than root gives up what there is and is told nothing.
    Nothing outside Linux.
    """
    root = os.geteuid() == 0
    held = read()
    if held is not None and is_enough(held, root):
        return ()
    try:
        kernel = _Kernel()
    except _NotLinux:
        return ()
    except HostError as exc:
        return (f"root's rights are kept: {exc}. {MEND}",) if root else ()
    refused = "; ".join(_give_up(kernel, root))
    return (f"{refused}. {MEND}",) if refused and root else ()


def read(path: Path = STATUS) -> Optional[Rights]:
    """The rights that a `status` file of /proc tells; None: there is none."""
    try:
        lines = dict(line.partition(":")[::2] for line in path.read_text().splitlines())
        return Rights(
            inheritable=int(lines["CapInh"], 16),
            permitted=int(lines["CapPrm"], 16),
            effective=int(lines["CapEff"], 16),
            bounding=int(lines["CapBnd"], 16),
            no_new_privs=int(lines.get("NoNewPrivs", "0")) == 1,  # told since Linux 4.10
        )
    except (OSError, KeyError, ValueError):  # no /proc in this chroot, or not Linux's
        return None


def is_enough(held: Rights, root: bool) -> bool:
    """Nothing is left to give up. Who is not root gains nothing from the bounding set."""
    sets = held.inheritable | held.permitted | held.effective | (held.bounding if root else 0)
    return held.no_new_privs and not sets & ~NEEDED


def _give_up(kernel: _Kernel, root: bool) -> Iterator[str]:
    """Every step, whatever became of the others. Yields what was refused."""
    # First: it needs CAP_SETPCAP, which goes with the rest.
    if root:
        refused = kernel.drop_bounding(~NEEDED)
        if refused:
            yield f"the capability bounding set is not reduced ({refused})"
    refused = kernel.set_no_new_privs()
    if refused:
        yield f"no_new_privs is not set ({refused})"
    refused = kernel.set_capabilities(NEEDED)
    if refused:
        yield f"root's capabilities are not given up ({refused})"
        return
    kernel.raise_ambient(NEEDED)


class _NotLinux(Exception):
    """There are no capabilities here. Handler: nothing is to be done, nor told."""


class _Kernel:
    """prctl(2) and capset(2) of the calling thread. Owner: main. "" for done, else the reason."""

    def __init__(self) -> None:
        """Raises _NotLinux, or HostError where the C library cannot be called."""
        try:
            import ctypes  # costs 0.3 MB, which a daemon without rights to give up need not pay
        except (ImportError, MemoryError) as exc:  # MemoryError: no page may be made executable
            raise HostError(f"Python's ctypes does not load here ({exc!r})") from exc
        self._ctypes = ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "capset"):
            raise _NotLinux
        self._libc = libc

    def drop_bounding(self, unneeded: int) -> str:
        refused = ""
        for number in range(_CAPABILITIES):
            if unneeded >> number & 1 and self._prctl(_PR_CAPBSET_READ, number)[0] == 1:
                refused = self._prctl(_PR_CAPBSET_DROP, number)[1] or refused
        return refused

    def set_no_new_privs(self) -> str:
        return self._prctl(_PR_SET_NO_NEW_PRIVS, 1)[1]

    def set_capabilities(self, kept: int) -> str:
        """Permitted, effective and inheritable: those of `kept` that are permitted now."""
        kept &= self.permitted()
        return self._call(self._libc.capset, self._header(), self._sets(kept, kept, kept))[1]

    def raise_ambient(self, kept: int) -> None:
        """For commands of a daemon that is not root. A kernel without it has nothing to refuse."""
        kept &= self.permitted()
        for number in range(_CAPABILITIES):
            if kept >> number & 1:
                refused = self._prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)[1]
                if refused:
                    logger.debug("ambient capability %d is not raised: %s", number, refused)

    def permitted(self) -> int:
        """What the thread may use now."""
        sets = self._sets(0, 0, 0)
        if self._call(self._libc.capget, self._header(), sets)[1]:
            return 0
        return sets[1] | sets[4] << 32

    def _header(self) -> object:
        return (self._ctypes.c_uint32 * 2)(_VERSION_3, 0)  # 0: the calling thread

    def _sets(
        self, effective: int, permitted: int, inheritable: int
    ) -> ctypes.Array[ctypes.c_uint32]:
        sets = (effective, permitted, inheritable)
        words = [each & _WORD for each in sets] + [each >> 32 for each in sets]
        return (self._ctypes.c_uint32 * len(words))(*words)

    def _prctl(self, *words: int) -> tuple[int, str]:
        # The kernel insists on zeros in what it does not use.
        numbers = [self._ctypes.c_ulong(word) for word in (*words, 0, 0, 0, 0)[:5]]
        return self._call(self._libc.prctl, *numbers)

    def _call(self, function: Callable[..., int], *arguments: object) -> tuple[int, str]:
        result = function(*arguments)
        return result, os.strerror(self._ctypes.get_errno()) if result < 0 else ""
