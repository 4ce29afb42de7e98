"""Who we are at ngrok: everything the state folder knows about this machine's registration."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ngrokd import __version__
from ngrokd.cloud import registrar, statefile
from ngrokd.cloud.api import Api
from ngrokd.cloud.apierrors import key_fault
from ngrokd.cloud.certificate import Validity
from ngrokd.cloud.keymaker import KeyMaker, Run
from ngrokd.cloud.pair import Pair
from ngrokd.cloud.registration import (
    Operator,
    Standing,
    Step,
    Wish,
    is_operator_id,
    next_step,
)
from ngrokd.config import ServerSettings
from ngrokd.errors import ApiRefused

logger = logging.getLogger(__name__)

_FILES = ("operator_id", "registration.json", "api_key", "installation_id")
_INSTALLATION_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class _Told:
    """What ngrok and we last told each other; `registration.json`. All of it can be asked again."""

    operator_id: str = ""
    ingress_endpoint: str = ""
    selectors: Optional[tuple[str, ...]] = None


class Identity:
    """Key, certificate, operator id and the API key set at run time. Owner: the main thread.

    Every method may raise StateError, with nothing sent or lost.
    """

    def __init__(self, server: ServerSettings, run: Optional[Run] = None) -> None:
        """Reads nothing yet: `load` does. `run` starts the process that makes keys."""
        certificate, key = Path(server.client_cert), Path(server.client_key)
        self._folder = certificate.parent
        self._key_folder = key.parent
        self._pair = Pair(certificate, key, KeyMaker(run))
        self._operator_id = ""
        self._told = _Told()

    @property
    def operator_id(self) -> str:
        """"" until registered, and after `lost`."""
        return self._operator_id

    @property
    def certificate_not_before(self) -> Optional[float]:
        """Unix seconds; None: no usable certificate and key."""
        validity = self._validity()
        return validity.not_before if validity else None

    @property
    def certificate_not_after(self) -> Optional[float]:
        """Unix seconds; None: no usable certificate and key."""
        validity = self._validity()
        return validity.not_after if validity else None

    @property
    def ingress_endpoint(self) -> str:
        """What the API named last, HOST[:PORT]; "": nothing."""
        return self._told.ingress_endpoint

    @property
    def registered(self) -> bool:
        """There is an operator, and a certificate and key that work for it."""
        return bool(self._operator_id) and self._validity() is not None

    def load(self) -> tuple[str, ...]:
        """Read the state folder, making it if need be. Returns notes for the log.

        Damage is no error: the file is kept as .corrupt and what it held is asked again.
        """
        self._make_folders()
        statefile.sweep(self._folder, _FILES)
        notes = list(self._pair.load())
        self._operator_id = self._read_word("operator_id", is_operator_id, notes)
        self._told = self._read_told(notes)
        return tuple(notes)

    def saved_api_key(self) -> str:
        """The key set at run time, "" if none."""
        notes: list[str] = []
        key = self._read_word("api_key", lambda text: not key_fault(text), notes)
        for note in notes:
            logger.warning("%s", note)
        return key

    def save_api_key(self, key: str) -> None:
        """Keep a key for the next start. ApiRefused: it cannot be one."""
        word = key.strip()
        fault = key_fault(word)
        if fault:
            raise ApiRefused(fault)
        self._make_folders()  # they may be gone since `load`
        self._write("api_key", word, 0o600)

    def next_step(self, now: float, selectors: tuple[str, ...]) -> Optional[Step]:
        """What to ask of ngrok next; None: nothing. `now`: Unix seconds."""
        told = self._told.selectors if self._told.operator_id == self._operator_id else None
        return next_step(Standing(self._operator_id, self._validity(), told), now, selectors)

    def begin(
        self, step: Step, api: Api, selectors: tuple[str, ...]
    ) -> Callable[[], Operator]:
        """Save what must not be lost, and return the job for the pool; its result is `finish`ed.

        The job raises ApiError; OperatorLost is for `lost`.
        """
        if not self._operator_id or (step is Step.UPDATE and self._validity() is None):
            step = Step.REGISTER
        self._make_folders()  # they may be gone since `load`
        csr = "" if step is Step.UPDATE else self._pair.prepare(renew=step is Step.RENEW)
        wish = Wish(
            installation_id=self._installation_id(),
            host_name=socket.gethostname(),
            version=__version__,
            selectors=selectors,
            csr=csr,
        )
        job: registrar.Job = {
            Step.REGISTER: registrar.register,
            Step.RENEW: registrar.renew,
            Step.UPDATE: registrar.update,
        }[step]
        return functools.partial(job, api, wish, self._operator_id)

    def finish(self, operator: Operator) -> None:
        """Save the job's result. ApiUnavailable: its certificate does not fit; the old pair stays.

        The pair first: an id with the certificate of another operator would look registered.
        """
        if operator.certificate:
            self._pair.install(operator.certificate)
        if operator.id != self._operator_id or not self._kept("operator_id"):
            self._write("operator_id", operator.id, 0o644)
            self._operator_id = operator.id
        ingress = operator.ingress_endpoint or self._told.ingress_endpoint
        self._save_told(_Told(operator.id, ingress, operator.selectors))

    def lost(self) -> None:
        """ngrok no longer knows the operator: forget its id. The key stays, for the next one."""
        self._operator_id = ""
        statefile.remove(self._folder / "operator_id")

    def _validity(self) -> Optional[Validity]:
        """Of the pair that is on disk now: somebody may have removed or replaced it."""
        note = self._pair.refresh()
        if note:
            logger.warning("%s", note)
        return self._pair.validity

    def _make_folders(self) -> None:
        for folder in (self._folder, self._key_folder):
            statefile.make_folder(folder)

    def _kept(self, name: str) -> bool:
        return os.path.lexists(self._folder / name)

    def _installation_id(self) -> str:
        """What marks our operator as ours at ngrok; made once."""
        notes: list[str] = []
        valid = _INSTALLATION_ID.fullmatch
        known = self._read_word("installation_id", lambda text: bool(valid(text)), notes)
        for note in notes:
            logger.warning("%s", note)
        if known:
            return known
        made = os.urandom(16).hex()
        self._write("installation_id", made, 0o644)
        return made

    def _read_word(self, name: str, valid: Callable[[str], bool], notes: list[str]) -> str:
        """A file of one word; "": missing, empty or damaged."""
        path = self._folder / name
        content = statefile.read(path)
        if content is None:
            return ""
        word = content.decode("utf-8", "replace").strip()
        if word and valid(word):
            return word
        notes.append(statefile.set_aside(path, "is damaged" if word else "is empty"))
        return ""

    def _write(self, name: str, word: str, mode: int) -> None:
        statefile.write_atomic(self._folder / name, f"{word}\n".encode(), mode)

    def _read_told(self, notes: list[str]) -> _Told:
        path = self._folder / "registration.json"
        content = statefile.read(path)
        if content is None:
            return _Told()
        try:
            return _told_of(json.loads(content))
        except (ValueError, RecursionError):
            notes.append(statefile.set_aside(path, "is damaged"))
            return _Told()

    def _save_told(self, told: _Told) -> None:
        if told != self._told or not self._kept("registration.json"):
            document = {
                "operator_id": told.operator_id,
                "ingress_endpoint": told.ingress_endpoint,
                "selectors": told.selectors,
            }
            content = json.dumps(document, indent=2).encode() + b"\n"
            statefile.write_atomic(self._folder / "registration.json", content, 0o644)
        self._told = told


def _told_of(document: object) -> _Told:
    """ValueError: not what `_save_told` writes."""
    if not isinstance(document, dict):
        raise ValueError("it is not an object")
    operator_id, ingress = document.get("operator_id"), document.get("ingress_endpoint")
    selectors = document.get("selectors")
    if not isinstance(operator_id, str) or not isinstance(ingress, str):
        raise ValueError("it lacks text")
    if not isinstance(selectors, list) or not all(isinstance(each, str) for each in selectors):
        raise ValueError("its selectors are no list of texts")
    return _Told(operator_id, ingress, tuple(selectors))
