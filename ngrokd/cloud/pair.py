"""The private key and its certificate on disk, replaced as a pair that survives a crash.

Two files cannot be renamed in one step. So a renewal writes `tls.key.next` before it asks, and
`tls.crt.next` when the answer is in hand; from that moment on the new pair counts, and whoever
finds those files after a crash finishes the renames:

    tls.key.next  tls.crt.next   found after a crash        means
    yes           no             asked, answer never saved  the old pair stays
    yes           yes            saved, nothing renamed     both are renamed
    no            yes            the key was renamed        the certificate is renamed
"""

from __future__ import annotations

import logging
import os
import ssl
import stat
from pathlib import Path
from typing import Optional

from ngrokd.cloud import statefile
from ngrokd.cloud.certificate import Validity, replacement_fault, validity
from ngrokd.cloud.keymaker import KeyMaker, Made, UnusableKey
from ngrokd.errors import ApiUnavailable, StateError

logger = logging.getLogger(__name__)


class Pair:
    """`server.client_key` and `server.client_cert`. Owner: the main thread."""

    def __init__(self, certificate: Path, key: Path, maker: KeyMaker) -> None:
        self._certificate = certificate
        self._key = key
        self._maker = maker
        self._next_certificate = certificate.with_name(certificate.name + ".next")
        self._next_key = key.with_name(key.name + ".next")
        self._validity: Optional[Validity] = None
        self.installed = 0  # so many certificates since the start
        self._seen: object = None  # the marks of the files that `_validity` is of

    @property
    def validity(self) -> Optional[Validity]:
        """Of the certificate; None: there is no usable pair."""
        return self._validity

    @property
    def request_path(self) -> Path:
        """Where the last signing request is kept: to be looked at, and before it is sent."""
        return self._certificate.with_name(self._certificate.stem + ".csr")

    def load(self) -> tuple[str, ...]:
        """Look at what is there; finish or undo what a crash left. Returns notes for the log.

        Damaged files are kept as .corrupt. StateError: a file cannot be read.
        """
        for path in (self._certificate, self._key, self.request_path):
            statefile.sweep(path.parent, (path.name, path.name + ".next"))
        notes = self._recover()
        notes += self._examine()
        if self._validity is not None:
            notes += self._close_to_others()
        return tuple(notes)

    def refresh(self) -> str:
        """Look again if a file is another one than at the last look. Returns a note for the log.

        Cheap when nothing changed, and never raises. Nothing is put aside: a person may be in the
        middle of replacing the two.
        """
        if self._marks() == self._seen:
            return ""
        before, fault = self._validity, "they are gone, damaged or do not fit"
        try:
            self._look()
        except StateError as exc:
            fault = str(exc)
        if before is None or self._validity is not None:
            return ""
        return (
            f"{self._certificate} and {self._key} can no longer be used: {fault};"
            " a new certificate is asked for"
        )

    def prepare(self, renew: bool) -> str:
        """A signing request whose key is on disk: a new one to renew, else the one we have.

        StateError: it cannot be saved, and nothing may be sent.
        """
        if self._certificate == self._key:
            raise StateError(
                f"server.client_cert and server.client_key both name {self._key};"
                " they need a file each"
            )
        made = None if renew else self._of_present_key()
        if made is None:
            made = self._maker.new()
            # A key that still serves is replaced together with its certificate only.
            place = self._next_key if renew else self._key
            statefile.write_atomic(place, made.key, 0o600)
        if not renew:
            statefile.remove(self._next_key)  # of a renewal that never got its answer
        statefile.write_atomic(self.request_path, made.request.encode(), 0o644)
        return made.request

    def install(self, certificate: str, now: float) -> None:
        """Make this certificate and the key it was asked for with the pair. `now`: Unix seconds.

        ApiUnavailable: it does not fit the key, or is worse than what it replaces. StateError: it
        cannot be saved. The old pair stays in all these cases.
        """
        fault = replacement_fault(self._validity, validity(certificate), now)
        if fault:
            raise ApiUnavailable(f"{fault}; the old one stays, and a new one is asked for")
        statefile.write_atomic(self._next_certificate, certificate.encode(), 0o644)
        if not self._fits(self._next_certificate):
            statefile.remove(self._next_certificate)
            raise ApiUnavailable(
                "the certificate that ngrok sent does not fit our private key;"
                " the old one stays, and a new one is asked for"
            )
        self._commit()
        self._validity = validity(certificate)
        self.installed += 1

    def remove(self) -> None:
        """Take key, certificate and request away, where links lead as well. Raises StateError."""
        for path in (
            self._next_certificate, self._next_key, self.request_path, self._certificate, self._key
        ):
            statefile.remove(_real(path))
            statefile.remove(path)
        self._look()

    def _recover(self) -> list[str]:
        """Apply the table of this module's docstring."""
        notes = []
        if statefile.read(self._next_certificate) is not None:
            if self._fits(self._next_certificate):
                self._commit()
                notes.append(f"{self._certificate}: a renewal cut short by a crash is finished")
            else:
                statefile.remove(self._next_certificate)
        if statefile.read(self._next_key) is not None:
            statefile.remove(self._next_key)
        return notes

    def _commit(self) -> None:
        """Key first: `.next` beside the certificate says that there is something to finish."""
        try:
            if self._next_key.exists():
                statefile.replace(self._next_key, _real(self._key))
            statefile.replace(self._next_certificate, _real(self._certificate))
        except OSError as exc:
            if not _matches(self._certificate, self._key):
                self._validity = None  # half done: the key on disk gets a certificate of its own
            raise StateError(
                f"{self._certificate} and {self._key} cannot be replaced: {exc.strerror};"
                " make their folders writable"
            ) from exc

    def _fits(self, certificate: Path) -> bool:
        """`certificate` belongs to the key that is to stand beside it."""
        key = self._next_key if self._next_key.exists() else self._key
        return _matches(certificate, key)

    def _examine(self) -> list[str]:
        """Set `validity`; put aside what is damaged."""
        key, certificate = self._look()
        if self._validity is not None or (key is None and certificate is None):
            return []
        return self._put_aside(key, certificate, _dates(certificate))

    def _look(self) -> tuple[Optional[bytes], Optional[bytes]]:
        """Set `validity`; the key and the certificate as they are. StateError: one is no file."""
        self._validity, self._seen = None, self._marks()
        key, certificate = statefile.read(self._key), statefile.read(self._certificate)
        dates = _dates(certificate)
        if key is not None and dates is not None and _matches(self._certificate, self._key):
            self._validity = dates
        return key, certificate

    def _marks(self) -> tuple[object, object]:
        return _mark(self._certificate), _mark(self._key)

    def _put_aside(
        self, key: Optional[bytes], certificate: Optional[bytes], dates: Optional[Validity]
    ) -> list[str]:
        """The key is kept whenever it still is one: ngrok gives it a new certificate."""
        good_key = key is not None and self._maker.usable(key)
        notes = []
        if key is None:
            notes.append(f"{self._key} is missing; a new key is made")
        elif not good_key:
            notes.append(statefile.set_aside(self._key, "is damaged") + "; a new key is made")
        again = "; a new one is asked for"
        if certificate is None:
            notes.append(f"{self._certificate} is missing{again}")
        elif dates is None:
            notes.append(statefile.set_aside(self._certificate, "is damaged") + again)
        elif good_key:
            wrong = f"does not fit {self._key}"
            notes.append(statefile.set_aside(self._certificate, wrong) + again)
        return notes

    def _of_present_key(self) -> Optional[Made]:
        """The key on disk and its request; None: there is none that a request can be made of."""
        content = statefile.read(self._key)
        if content is None:
            return None
        try:
            return self._maker.request(content)
        except UnusableKey:
            logger.warning("%s", statefile.set_aside(self._key, "cannot be used for a request"))
            return None

    def _close_to_others(self) -> list[str]:
        """A private key that every user can read is closed; a group may have been let in."""
        mode = stat.S_IMODE(self._key.stat().st_mode)
        if not mode & stat.S_IRWXO:
            return []
        try:
            self._key.chmod(mode & ~stat.S_IRWXO)
        except OSError as exc:
            return [f"{self._key} can be read by every user, and its mode stays: {exc.strerror}"]
        return [f"{self._key} could be read by every user; its mode is now {mode & 0o770:o}"]


def _mark(path: Path) -> object:
    """Another one for each change of the file; None: there is none, or it is out of reach."""
    try:
        known = path.stat()
    except OSError:
        return None
    return known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns, known.st_ctime_ns


def _matches(certificate: Path, key: Path) -> bool:
    """OpenSSL accepts the two together: what the ingress connections will do with them."""
    try:
        # The password keeps OpenSSL from asking the terminal for that of an encrypted key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, lambda: "")
    except (OSError, ValueError):  # SSLError is an OSError
        return False
    return True


def _dates(certificate: Optional[bytes]) -> Optional[Validity]:
    if certificate is None:
        return None
    try:
        return validity(certificate.decode("ascii", "replace"))
    except ValueError:
        return None


def _real(path: Path) -> Path:
    """A symbolic link stays one; what it leads to is replaced."""
    return Path(os.path.realpath(path))  # `resolve` raises RuntimeError for a circle of links
