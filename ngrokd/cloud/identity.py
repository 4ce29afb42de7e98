"""Who we are at ngrok: everything the state folder knows about this machine's registration."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from ngrokd import __version__
from ngrokd.cloud import recordfile, registrar, statefile
from ngrokd.cloud.api import Api
from ngrokd.cloud.apierrors import key_fault
from ngrokd.cloud.certificate import Validity
from ngrokd.cloud.keymaker import KeyMaker, Run
from ngrokd.cloud.operators import Operator, Wish, is_operator_id
from ngrokd.cloud.pair import Pair
from ngrokd.cloud.recordfile import Told
from ngrokd.cloud.registration import Profile, Record, Step
from ngrokd.config import ServerSettings
from ngrokd.errors import ApiRefused, StateError

logger = logging.getLogger(__name__)

_FILES = ("operator_id", "registration.json", "api_key", "installation_id", "ca.crt")
_INSTALLATION_ID = re.compile(r"[0-9a-f]{32}")


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
        self._told = Told()

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
    def certificates_installed(self) -> int:
        """So many came from ngrok since the start."""
        return self._pair.installed

    @property
    def ingress_endpoint(self) -> str:
        """What the API named last, HOST[:PORT]; "": nothing."""
        return self._told.ingress_endpoint

    @property
    def registered(self) -> bool:
        """There is an operator, and a certificate and key that work for it."""
        return bool(self._operator_id) and self._validity() is not None

    @property
    def left(self) -> bool:
        """A person took this machine out of ngrok, and nobody has given a key since."""
        return self._told.left

    def load(self) -> tuple[str, ...]:
        """Read the state folder, making it if need be. Returns notes for the log.

        Damage is no error: the file is kept as .corrupt and what it held is asked again.
        """
        self._make_folders()
        statefile.sweep(self._folder, _FILES)
        notes = list(self._pair.load())
        self._operator_id = self._read_word("operator_id", is_operator_id, notes)
        self._told = recordfile.read(self._folder, notes)
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

    def recorded(self, record: Record, selectors: tuple[str, ...]) -> Record:
        """The record with what is on disk now, and what ngrok is to know now."""
        known = self._told.operator_id == self._operator_id
        return dataclasses.replace(
            record,
            operator_id=self._operator_id,
            validity=self._validity(),
            told=self._told.profile if known else None,
            wanted=Profile(selectors, socket.gethostname(), __version__),
        )

    def begin(self, step: Step, api: Api, profile: Profile) -> Callable[[], Operator]:
        """Save what must not be lost, and return the job for the pool; its result is `finish`ed.

        The job raises ApiError; OperatorLost is for `lost`.
        """
        if not self._operator_id or (step is not Step.RENEW and self._validity() is None):
            step = Step.REGISTER
        self._make_folders()  # they may be gone since `load`
        asks = step in (Step.REGISTER, Step.RENEW)
        csr = self._pair.prepare(renew=step is Step.RENEW) if asks else ""
        first = not self._kept("installation_id")
        wish = Wish(self._marked(), profile, csr, first)
        job: registrar.Job = {
            Step.REGISTER: registrar.register,
            Step.RENEW: registrar.renew,
            Step.UPDATE: registrar.update,
            Step.LOOK: registrar.look,
        }[step]
        return functools.partial(job, api, wish, self._operator_id)

    def finish(self, operator: Operator, now: float) -> None:
        """Save the job's result. `now`: Unix seconds.

        ApiUnavailable: its certificate does not fit the key or the clock; the old pair stays. The
        pair is saved first: an id with another operator's certificate would look registered.
        """
        known = operator.id == self._told.operator_id
        if operator.certificate:
            self._pair.install(operator.certificate, now)
        if operator.id != self._operator_id or not self._kept("operator_id"):
            self._write("operator_id", operator.id, 0o644)
            self._operator_id = operator.id
        ingress = operator.ingress_endpoint or self._told.ingress_endpoint
        told = operator.told or (self._told.profile if known else None)
        self._save_told(Told(operator.id, ingress, told))

    def lost(self) -> None:
        """ngrok no longer knows the operator: forget its id. The key stays, for the next one."""
        self._operator_id = ""
        try:
            statefile.remove(self._folder / "operator_id")
        except StateError as exc:  # a restart asks with the old id, and is told the same
            logger.warning("%s", exc)

    @property
    def installation_id(self) -> str:
        """What marks our operator as ours at ngrok; "": none was made yet. Raises StateError."""
        return self._read_word("installation_id", _is_installation_id, [])

    def mark_left(self, left: bool) -> None:
        """Remember over a restart that a person took this machine out, or that it is back."""
        self._make_folders()
        self._save_told(dataclasses.replace(self._told, left=left))

    def forget(self) -> None:
        """Remove all that says who we are: the operator is gone, and no key is of use any more."""
        self._pair.remove()
        # The id last: while it is there, the leave-taking can be finished.
        for name in ("api_key", "installation_id", "operator_id"):
            statefile.remove(self._folder / name)
        self._operator_id = ""
        self._save_told(Told(left=True))

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

    def _marked(self) -> str:
        """What marks our operator as ours at ngrok; made once."""
        notes: list[str] = []
        known = self._read_word("installation_id", _is_installation_id, notes)
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

    def _save_told(self, told: Told) -> None:
        if told != self._told or not self._kept(recordfile.NAME):
            recordfile.write(self._folder, told)
        self._told = told


def _is_installation_id(text: str) -> bool:
    return _INSTALLATION_ID.fullmatch(text) is not None
