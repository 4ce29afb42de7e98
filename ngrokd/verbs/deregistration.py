"""Leaving ngrok: the operator of this machine is deleted there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ngrokd import __version__
from ngrokd.cloud import statefile
from ngrokd.cloud.api import Api
from ngrokd.cloud.operators import is_operator_id
from ngrokd.config import Config
from ngrokd.configtext.settings import KEY_FILE_VARIABLE, KEY_VARIABLE
from ngrokd.errors import ApiError, HostError

TIMEOUT_S = 15.0  # a person waits


@dataclass(frozen=True)
class Registration:
    """What the state folder knows of this machine's operator; nothing is changed by looking."""

    operator_id: str
    url: str
    again: str  # the command that tries it once more
    key: str = field(repr=False)


def registration(config: Config, environ: Mapping[str, str], again: str) -> Registration:
    """`operator_id` "": there is none. Raises StateError if that cannot be read."""
    folder = config.state_folder
    operator_id = _word(folder / "operator_id")
    if not is_operator_id(operator_id):
        operator_id = ""
    key_file = environ.get(KEY_FILE_VARIABLE, "")
    key = (
        _word(folder / "api_key")
        or environ.get(KEY_VARIABLE, "").strip()
        or (key_file and _word(Path(key_file)))
        or config.api.key
    )
    return Registration(operator_id, config.api.url, again, key)


def deregister(found: Registration) -> list[str]:
    """Deletes it; that it is gone already is fine. Raises HostError, with the way out."""
    if not found.operator_id:
        return []
    if not found.key:
        raise HostError(_kept(found, "no API key is known (set NGROK_API_KEY)"))
    api = Api(found.url, found.key, __version__, TIMEOUT_S)
    try:
        api.delete_operator(found.operator_id)
    except ApiError as exc:
        cause = str(exc).removesuffix("; it is tried again")  # by the daemon, which has gone
        raise HostError(_kept(found, cause)) from exc
    return [f"deleted operator {found.operator_id} at {found.url}"]


def _kept(found: Registration, cause: str) -> str:
    return (
        f"operator {found.operator_id} is still at ngrok: {cause}. ngrokd is stopped, and all "
        f"of it stays: run `{found.again}` again, or with --force to remove it all the same"
    )


def _word(path: Path) -> str:
    content = statefile.read(path)
    return "" if content is None else content.decode("utf-8", "replace").strip()
