"""Which ingress is trusted, and where it is."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import pytest

from ngrokd.cloud import trust
from ngrokd.cloud.ingressaddress import IngressAddress, parse
from ngrokd.cloud.keys import new_key, signing_request
from ngrokd.cloud.trust import fingerprint, ingress_context, resolve_ingress
from ngrokd.errors import HostError, StateError
from ngrokd.model import Address
from tests.cloud_fake import Authority, fifo_at

AUTHORITY = Authority()


class Place:
    """A state folder with a client pair, and a vendor's folder."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.vendor = folder / "vendor"
        self.ca_file = ""
        self.state.mkdir()
        key = new_key()
        (self.state / "tls.key").write_bytes(key)
        (self.state / "tls.crt").write_text(AUTHORITY.sign(signing_request(key)))

    def context(self) -> ssl.SSLContext:
        return ingress_context(*self._pair(), self.ca_file, self.state, self.vendor)

    def fingerprint(self) -> trust.Fingerprint:
        return fingerprint(*self._pair(), self.ca_file, self.state, self.vendor)

    def _pair(self) -> tuple[Path, Path]:
        return self.state / "tls.crt", self.state / "tls.key"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def server_context(
    folder: Path, authority: Authority, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    """An ingress that wants a client certificate of AUTHORITY; no chain is sent."""
    certificate, key = authority.server("ingress.test")
    (folder / "server.pem").write_text(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    context.load_verify_locations(
        cadata=AUTHORITY.root_pem() + AUTHORITY.intermediate_pem()
    )
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = min(version, ssl.TLSVersion.TLSv1_2)
    context.maximum_version = version
    return context


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> str:
    """The protocol they agree on; ssl.SSLError as either side raises it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        if turn(ours.do_handshake) & turn(theirs.do_handshake):
            return ours.version() or ""
    raise AssertionError("the handshake never ends")


def turn(handshake: Callable[[], None]) -> bool:
    try:
        handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def trusts(place: Place, folder: Path, authority: Authority = AUTHORITY) -> bool:
    try:
        shake_hands(place.context(), server_context(folder, authority), "ingress.test")
    except ssl.SSLCertVerificationError:
        return False
    return True


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_intermediate_alone_is_an_anchor_and_our_certificate_is_shown(
    place: Place, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    (place.state / "ca.crt").write_text(AUTHORITY.intermediate_pem())
    server = server_context(tmp_path, AUTHORITY, version)
    agreed = shake_hands(place.context(), server, "ingress.test")
    assert agreed == version.name.replace("_", ".")


def test_without_an_anchor_the_ingress_is_not_trusted(place: Place, tmp_path: Path) -> None:
    assert not trusts(place, tmp_path)
    place.vendor.mkdir()  # an empty folder changes nothing
    assert not trusts(place, tmp_path)


@pytest.mark.parametrize("where", ["state/ca.crt", "vendor/ngrok-ca.crt", "vendor/deep/er/x", "ca"])
def test_each_place_of_anchors_counts(place: Place, tmp_path: Path, where: str) -> None:
    path = tmp_path / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(AUTHORITY.intermediate_pem())
    place.ca_file = str(path) if where == "ca" else ""
    assert trusts(place, tmp_path)
    assert not trusts(place, tmp_path, Authority())


def test_another_name_in_a_trusted_certificate_is_refused(place: Place, tmp_path: Path) -> None:
    (place.state / "ca.crt").write_text(AUTHORITY.intermediate_pem())
    server = server_context(tmp_path, AUTHORITY)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(place.context(), server, "other.test")


def test_verification_is_always_on(place: Place) -> None:
    context = place.context()
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT


NO_ANCHORS = ("README", "empty", "binary", "dangling", "fifo", "large")


def test_files_of_the_vendor_that_are_no_certificates_are_passed_over(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place.vendor.mkdir()
    (place.vendor / "README").write_text("no certificate")
    (place.vendor / "empty").touch()
    (place.vendor / "binary").write_bytes(bytes(range(256)))
    (place.vendor / "dangling").symlink_to(tmp_path / "nowhere")
    (place.vendor / "loop").symlink_to(place.vendor)
    os.mkfifo(place.vendor / "fifo")
    with (place.vendor / "large").open("wb") as large:
        large.truncate(trust.MAX_ANCHOR_BYTES + 1)
    (place.vendor / "zz.pem").write_text("text before\n" + AUTHORITY.intermediate_pem())
    caplog.set_level("DEBUG", "ngrokd.cloud.trust")
    assert trusts(place, tmp_path)
    told = {record.getMessage().partition(" is no trust anchor: ")[0] for record in caplog.records}
    assert told == {str(place.vendor / name) for name in NO_ANCHORS}
    assert {record.levelname for record in caplog.records} == {"DEBUG"}


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_ca_file_that_was_named_and_is_none_is_an_error(
    place: Place, tmp_path: Path, content: Optional[str]
) -> None:
    place.ca_file = str(tmp_path / "ca.pem")
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(StateError, match=r"ca\.pem cannot be used.*server\.ca_file"):
        place.context()


def test_a_ca_crt_that_is_none_is_an_error(place: Place) -> None:
    (place.state / "ca.crt").write_text("no certificate")
    with pytest.raises(StateError, match=r"ca\.crt cannot be used as a trust anchor"):
        place.context()


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("state/ca.crt", "put a PEM certificate there, or remove it"),
        ("named", r"server\.ca_file"),
        ("state/tls.crt", "rotate-cert"),
        ("state/tls.key", "rotate-cert"),
    ],
)
def test_a_fifo_in_the_place_of_a_file_is_an_error_and_does_not_hang(
    place: Place, tmp_path: Path, name: str, mend: str
) -> None:
    path = tmp_path / name
    path.unlink(missing_ok=True)
    place.ca_file = str(path) if name == "named" else ""
    with fifo_at(path), pytest.raises(StateError, match=rf"not a regular file.*{mend}"):
        place.context()


@pytest.mark.parametrize("kind", ["folder", "device"])
def test_a_ca_file_that_is_no_regular_file_is_an_error(
    place: Place, tmp_path: Path, kind: str
) -> None:
    place.ca_file = str(tmp_path) if kind == "folder" else "/dev/zero"
    with pytest.raises(StateError, match=r"not a regular file.*server\.ca_file"):
        place.context()


def test_a_ca_file_may_be_a_symbolic_link(place: Place, tmp_path: Path) -> None:
    (tmp_path / "ca").write_text(AUTHORITY.intermediate_pem())
    (tmp_path / "link").symlink_to(tmp_path / "ca")
    place.ca_file = str(tmp_path / "link")
    assert trusts(place, tmp_path)


def test_a_pair_that_does_not_fit_is_an_error(place: Place) -> None:
    (place.state / "tls.key").write_bytes(new_key())
    with pytest.raises(StateError, match=r"tls\.crt and .*tls\.key.*mismatch.*rotate-cert"):
        place.context()


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "garbage inside"])
@pytest.mark.parametrize("name", ["tls.key", "tls.crt"])
def test_of_a_pair_that_cannot_be_read_the_file_is_told_and_what_it_has(
    place: Place, name: str, damage: str
) -> None:
    path = place.state / name
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    path.write_text(
        {
            "cut": whole[: len(whole) // 2],
            "empty": "",
            "text": "hello\n",
            "garbage inside": "".join([lines[0], f"{'A' * 64}\n", *lines[2:]]),
        }[damage]
    )
    with pytest.raises(StateError) as caught:
        place.context()
    told = str(caught.value)
    assert f"certificate: {path} is empty, damaged" in told and "cut short" in told
    assert "_ssl" not in told


def test_an_anchor_that_was_cut_short_is_told_in_words(place: Place, tmp_path: Path) -> None:
    (tmp_path / "ca").write_text(AUTHORITY.intermediate_pem()[:200])
    place.ca_file = str(tmp_path / "ca")
    with pytest.raises(StateError, match=r"trust anchor: it is .*damaged or cut short; name a PEM"):
        place.context()


def test_a_missing_pair_is_an_error(place: Place) -> None:
    (place.state / "tls.key").unlink()
    with pytest.raises(StateError, match="No such file"):
        place.context()


@pytest.mark.parametrize("where", ["state/ca.crt", "vendor/x", "ca", "state/tls.crt"])
def test_the_fingerprint_changes_when_a_file_comes_changes_or_goes(
    place: Place, tmp_path: Path, where: str
) -> None:
    place.vendor.mkdir()
    place.ca_file = str(tmp_path / "ca")
    path = tmp_path / where
    path.unlink(missing_ok=True)
    seen = [place.fingerprint()]
    path.write_text("one")
    seen.append(place.fingerprint())
    other = tmp_path / "sibling"
    other.write_text("two")
    other.replace(path)
    seen.append(place.fingerprint())
    assert place.fingerprint() == seen[-1]
    path.unlink()
    assert place.fingerprint() == seen[0]
    assert len(set(seen)) == 3


# Where it is


def test_literal_addresses_need_no_resolver() -> None:
    assert resolve_ingress(parse("127.0.0.1:99")) == (Address("127.0.0.1", 99),)
    assert resolve_ingress(parse("[::1]:99")) == (Address("::1", 99),)


def test_all_addresses_come_once_in_the_resolvers_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*_: object, **__: object) -> list[object]:
        v6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 443, 0, 0))
        v4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))
        return [v6, v4, v6]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    found = resolve_ingress(parse("ingress.test"))
    assert found == (Address("2001:db8::1", 443), Address("192.0.2.1", 443))


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".test"])
def test_a_name_that_cannot_be_resolved_is_an_error_with_its_mend(host: str) -> None:
    with pytest.raises(HostError, match="cannot be resolved"):
        resolve_ingress(IngressAddress(host, 443))


def test_a_resolver_that_fails_is_an_error_with_its_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(HostError, match=r"ingress\.test.*Name or service not known.*DNS"):
        resolve_ingress(parse("ingress.test:443"))


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_the_fingerprint_changes_with_the_systems_anchors(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    folder = tmp_path / "system"
    folder.mkdir()
    (folder / "all.pem").write_text(AUTHORITY.root_pem())
    named = folder / "all.pem" if variable == "SSL_CERT_FILE" else folder
    monkeypatch.setenv(variable, str(named))
    seen = place.fingerprint()
    assert place.fingerprint() == seen
    (folder / "other.pem").write_text(AUTHORITY.intermediate_pem())
    (folder / "other.pem").replace(folder / "all.pem")
    assert place.fingerprint() != seen
