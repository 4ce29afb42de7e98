"""Leaving ngrok: the operator of this machine is deleted there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ngrokd import __version__
from ngrokd.cloud import registrar, statefile
from ngrokd.cloud.api import Api
from ngrokd.cloud.operators import is_operator_id
from ngrokd.config import Config
from ngrokd.configtext.settings import KEY_FILE_VARIABLE, KEY_VARIABLE
from ngrokd.errors import ApiError, ApiRefused, HostError

TIMEOUT_S = 15.0  # a person waits


@dataclass(frozen=True)
class Registration:
    """What the state folder knows of this machine's operator; nothing is changed by looking."""

    operator_id: str
    installation_id: str  # marks the operator that a crash kept from being noted
    url: str
    again: str  # the command that tries it once more
    key: str = field(repr=False)

    @property
    def may_be_there(self) -> bool:
        """There is an operator, or there may be one that can be looked for."""
        return bool(self.operator_id or (self.installation_id and self.key))

    @property
    def named(self) -> str:
        """The operator, in words."""
        if self.operator_id:
            return f"operator {self.operator_id}"
        return "the operator of this machine, if there is one,"


def registration(config: Config, environ: Mapping[str, str], again: str) -> Registration:
    """`operator_id` "": none is known. Raises StateError if that cannot be read."""
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
    installation_id = _word(folder / "installation_id")
    return Registration(operator_id, installation_id, config.api.url, again, key)


def deregister(found: Registration) -> list[str]:
    """Deletes it; that it is gone already is fine. Raises HostError, with the way out."""
    if not found.may_be_there:
        return []
    if not found.key:
        raise HostError(_kept(found, "no API key is known (set NGROK_API_KEY)"))
    api = Api(found.url, found.key, __version__, TIMEOUT_S)
    try:
        deleted = registrar.leave(api, found.operator_id, found.installation_id)
    except ApiError as exc:
        if isinstance(exc, ApiRefused) and not found.operator_id:
            return [f"no operator is known here, and none can be looked for: {exc}"]
        cause = str(exc).removesuffix("; it is tried again")  # by the daemon, which has gone
        raise HostError(_kept(found, cause)) from exc
    return [f"deleted operator {deleted} at {found.url}"] if deleted else []


def _kept(found: Registration, cause: str) -> str:
    return (
        f"{found.named} is still at ngrok: {cause}. ngrokd is stopped, and all "
        f"of it stays: run `{found.again}` again, or with --force to remove it all the same"
    )


def _word(path: Path) -> str:
    content = statefile.read(path)
    return "" if content is None else content.decode("utf-8", "replace").strip()
