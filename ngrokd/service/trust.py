"""Who besides root could put something else in the place of a file: its way, link by link."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MAX_LINKS = 40  # as the kernel


@dataclass(frozen=True)
class Threat:
    """Somebody who could replace `place`. `who` completes "... may write to it"."""

    place: str
    who: str
    everybody: bool = False
    owner: bool = False


def threats(path: str) -> list[Threat]:
    """Of a file, all folders that lead there, and all links on the way. What is missing is none."""
    found: list[Threat] = []
    for place in _way_to(path):
        with contextlib.suppress(OSError):  # not there, or a circle of links
            found += _of(place)
    return found


def newcomers(path: str) -> list[Threat]:
    """As `threats`, for a file that is to be made: nobody else may make it before."""
    found = threats(path)
    folder = Path(path).parent
    while not folder.exists():
        folder = folder.parent
    if not os.path.lexists(path) and folder.stat().st_mode & stat.S_IWOTH:
        found.append(Threat(str(folder), "everybody", everybody=True))
    return found


def _of(place: Path) -> list[Threat]:
    known = place.lstat()
    if known.st_uid != 0:
        return [Threat(str(place), f"user {known.st_uid}", owner=True)]
    if stat.S_ISLNK(known.st_mode):
        return []  # its mode means nothing
    sticky = stat.S_ISDIR(known.st_mode) and known.st_mode & stat.S_ISVTX
    if known.st_mode & stat.S_IWOTH and not sticky:
        return [Threat(str(place), "everybody", everybody=True)]
    if known.st_mode & stat.S_IWGRP and not sticky and _has_members(known.st_gid):
        return [Threat(str(place), f"group {known.st_gid}")]
    return []


def _has_members(gid: int) -> bool:
    """Somebody besides root. Debian's own /usr/local belongs to a group without any."""
    if gid == 0:
        return False
    with contextlib.suppress(KeyError):
        if set(grp.getgrgid(gid).gr_mem) - {"root"}:
            return True
    return any(user.pw_gid == gid and user.pw_uid != 0 for user in pwd.getpwall())


def _way_to(path: str) -> Iterator[Path]:
    """Each entry that is looked up to find it, once, from / on."""
    seen: set[Path] = set()
    todo = list(reversed(Path(path).parts[1:]))
    place, links = Path("/"), 0
    yield place
    while todo:
        name = todo.pop()
        place = place.parent if name == ".." else place / name
        if place not in seen:
            seen.add(place)
            yield place
        if place.is_symlink() and links < _MAX_LINKS:
            links += 1
            target = place.readlink()
            todo += reversed([part for part in target.parts if part != "/"])
            place = Path("/") if target.is_absolute() else place.parent
