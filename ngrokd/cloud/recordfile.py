"""`registration.json`: what ngrok and we last told each other. All of it can be asked again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ngrokd.cloud import statefile
from ngrokd.cloud.registration import Profile
from ngrokd.errors import StateError

NAME = "registration.json"


@dataclass(frozen=True)
class Told:
    """The content of the file."""

    operator_id: str = ""  # whom `profile` was told
    ingress_endpoint: str = ""  # what the API named last
    profile: Optional[Profile] = None  # None: not known
    left: bool = False  # a person took this machine out of ngrok


def read(folder: Path, notes: list[str]) -> Told:
    """What the folder holds. Damage is kept beside, with a note. Raises StateError."""
    path = folder / NAME
    content = statefile.read(path)
    if content is None:
        return Told()
    try:
        return _told_of(json.loads(content))
    except (ValueError, RecursionError):
        notes.append(statefile.set_aside(path, "is damaged"))
        return Told()


def ingress_named(folder: Path) -> str:
    """What the API named last, "" where that is not known. Nothing is moved or made."""
    try:
        return _told_of(json.loads(statefile.read(folder / NAME) or b"")).ingress_endpoint
    except (StateError, ValueError, RecursionError):
        return ""


def write(folder: Path, told: Told) -> None:
    """Raises StateError; what was there before is then still there."""
    document: dict[str, object] = {
        "operator_id": told.operator_id,
        "ingress_endpoint": told.ingress_endpoint,
    }
    if told.profile is not None:
        document["selectors"] = told.profile.selectors
        document["host_name"] = told.profile.host_name
        document["version"] = told.profile.version
    if told.left:
        document["left"] = True
    statefile.write_atomic(folder / NAME, json.dumps(document, indent=2).encode() + b"\n", 0o644)


def _told_of(document: object) -> Told:
    """ValueError: not what `write` writes."""
    if not isinstance(document, dict):
        raise ValueError("it is not an object")
    operator_id, ingress = document.get("operator_id"), document.get("ingress_endpoint")
    if not isinstance(operator_id, str) or not isinstance(ingress, str):
        raise ValueError("it lacks text")
    left = document.get("left", False)
    if not isinstance(left, bool):
        raise ValueError("whether we left is neither true nor false")
    return Told(operator_id, ingress, _profile_of(document), left)


def _profile_of(document: dict[object, object]) -> Optional[Profile]:
    """None: it lacks a member, so it was never told or by another version: it is told again."""
    selectors, host_name = document.get("selectors"), document.get("host_name")
    version = document.get("version")
    if selectors is None or host_name is None or version is None:
        return None
    if not isinstance(selectors, list) or not all(isinstance(each, str) for each in selectors):
        raise ValueError("its selectors are no list of texts")
    if not isinstance(host_name, str) or not isinstance(version, str):
        raise ValueError("its host name or version is no text")
    return Profile(tuple(selectors), host_name, version)
