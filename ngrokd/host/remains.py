"""What a write that was cut short left of a hosts file: is it a half, and what is missing. Pure."""

from __future__ import annotations

from typing import Optional

from ngrokd.host import hosts

# What a disk writes as a whole; a kill stops between pages, which are multiples of it.
_SECTOR_BYTES = 512

# Around a line, these change nothing; zeros are room that was reserved.
_BLANK = b" \t\r\0"


def mended(current: bytes, old: bytes, new: bytes) -> Optional[bytes]:
    """`old`, if `current` is for certain a half of `new` written over it; None: it may be whole.

    What was appended since stays. A file that somebody shortened is never taken for a half: room
    for the longer content is reserved before the first byte, and cut off after the last one.
    """
    longest = max(len(old), len(new))
    body, appended = current[:longest], current[longest:]
    if len(body) < longest or body in (old, new):
        return None
    # With room reserved; put back over what was written; written: all of them not yet cut off.
    stages = (old.ljust(longest, b"\0"), old + new[len(old) :], new + old[len(new) :])
    for start in range(0, longest, _SECTOR_BYTES):
        sector = body[start : start + _SECTOR_BYTES]
        if all(sector != stage[start : start + _SECTOR_BYTES] for stage in stages):
            return None
    return old + appended


def is_missing_lines(current: bytes, former: bytes) -> bool:
    """`former` has lines that no ngrokd wrote and that `current` has not.

    The last one may be unfinished: it is then the beginning of one.
    """
    if current == former:
        return False
    there = {line.strip(_BLANK) for line in current.split(b"\n")}
    *lines, last = hosts.of_others(former).split(b"\n")
    if any(line.strip(_BLANK) not in there for line in lines if line.strip(_BLANK)):
        return True
    last = last.strip(_BLANK)
    return bool(last) and not any(line.startswith(last) for line in there)
