"""Which file is taken for a CA certificate that may be trusted."""

from __future__ import annotations

import base64
import datetime
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.cloud import facts, ngrokca
from ngrokd.cloud.certificate import pem_of
from ngrokd.cloud.ngrokca import SHA256, anchor, holds, normal_fingerprint
from ngrokd.cloud.presented import first_certificate
from tests.cloud_fake import Authority

AUTHORITY = Authority()
PEM = AUTHORITY.intermediate_pem()
NOW = datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc).timestamp()
YEAR_S = 366 * 86400.0


def sha256_of(pem: str) -> str:
    return facts.read(ngrokca._only_certificate(pem.encode())).sha256


OURS = sha256_of(PEM)


@pytest.mark.parametrize(
    "text", [OURS, OURS.lower(), OURS.replace(":", ""), f" {OURS.replace(':', '').lower()}\n"],
    ids=["colons", "small", "bare", "bare and small between blanks"],
)
def test_a_fingerprint_may_be_written_in_several_ways(text: str) -> None:
    assert normal_fingerprint(text) == OURS


@pytest.mark.parametrize(
    "text",
    ["", "ab", OURS[:-1], OURS + ":00", "g" * 64, "\u0661" * 64],
    ids=["none", "short", "cut", "long", "no digits", "other digits"],
)
def test_what_is_no_fingerprint_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        normal_fingerprint(text)


def test_the_known_fingerprint_is_one() -> None:
    assert normal_fingerprint(SHA256) == SHA256


@pytest.mark.parametrize(
    "content",
    [PEM, PEM.replace("\n", "\r\n"), f"subject=C = US\n{PEM}\n\n", PEM.strip()],
    ids=["plain", "CRLF", "with words", "no last line break"],
)
def test_a_ca_certificate_with_the_right_fingerprint_is_taken(content: str) -> None:
    found = anchor(content.encode(), OURS, NOW)
    assert found.pem == PEM
    assert found.facts.sha256 == OURS and found.facts.subject == "CN=Intermediate CA"


def test_another_certificate_than_ngroks_is_refused_with_both_fingerprints() -> None:
    with pytest.raises(ValueError, match=rf"{OURS}, which is not ngrok's CA \({SHA256}\)"):
        anchor(PEM.encode(), SHA256, NOW)


def test_another_certificate_than_the_one_asked_for_is_refused() -> None:
    other = sha256_of(AUTHORITY.root_pem())
    with pytest.raises(ValueError, match=rf"{OURS}, and not {other}"):
        anchor(PEM.encode(), other, NOW)


def test_a_certificate_that_is_no_ca_is_refused() -> None:
    leaf, _ = AUTHORITY.server("ingress.test")
    with pytest.raises(ValueError, match=r"CN=ingress\.test.*not the certificate of a CA"):
        anchor(leaf.encode(), sha256_of(leaf), NOW)


@pytest.mark.parametrize(
    ("now", "why"), [(NOW + 20 * YEAR_S, "ended on 2044-01-01"), (0.0, "begins on 2024-01-01")]
)
def test_a_certificate_that_is_not_valid_now_is_refused(now: float, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        anchor(PEM.encode(), OURS, now)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no PEM certificate"),
        (b"<html>404</html>", "no PEM certificate"),
        (PEM.encode() + AUTHORITY.root_pem().encode(), "2 PEM blocks"),
        (AUTHORITY.server("a.test")[1].encode() + PEM.encode(), "2 PEM blocks"),
        (PEM.encode() + b"-----BEGIN CERTIFICATE-----\nMII", "2 PEM blocks"),
        (AUTHORITY.server("a.test")[1].encode(), "no certificate but a private key"),
        (PEM.encode().replace(b"MII", b"M!I", 1), "not base64"),
        (PEM.encode().replace(b"MII", b"MIA", 1), "cannot be read"),
        (b"x" * (ngrokca.MAX_BYTES + 1), "more than 32 KiB"),
    ],
    ids=range(9),
)
def test_what_is_not_exactly_one_certificate_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        anchor(content, OURS, NOW)


def test_a_bundle_is_searched_for_one_certificate() -> None:
    bundle = f"# mine\n{AUTHORITY.root_pem()}-----BEGIN X-----\nAA\n-----END X-----\n{PEM}".encode()
    assert holds(bundle, OURS)
    assert not holds(AUTHORITY.root_pem().encode(), OURS)
    assert not holds(b"", OURS)


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_an_anchor_or_a_value_error(content: bytes, framed: bool) -> None:
    if framed:
        content = b"-----BEGIN CERTIFICATE-----\n" + content + b"\n-----END CERTIFICATE-----\n"
    with pytest.raises(ValueError, match=r"."):
        anchor(content, OURS, NOW)
    assert not holds(content, OURS)


# The message in which a server shows its certificate


def test_the_first_certificate_of_either_version_is_found() -> None:
    one, two = b"\x30" * 300, b"\x31" * 5

    def length(content: bytes) -> bytes:
        return len(content).to_bytes(3, "big") + content

    older = length(length(one) + length(two))
    newer = b"\x02ab" + length(length(one) + b"\0\0" + length(two) + b"\0\x01x")
    assert first_certificate(b"\x0b" + length(older)) == one
    assert first_certificate(b"\x0b" + length(newer)) == one
    assert first_certificate(b"\x0b" + length(length(b""))) is None
    assert first_certificate(b"\x0c" + length(older)) is None


@given(st.binary(max_size=80))
def test_any_message_holds_a_certificate_or_none(content: bytes) -> None:
    found = first_certificate(b"\x0b" + len(content).to_bytes(3, "big") + content)
    assert found is None or (found and found in content)


@pytest.mark.parametrize("piece", [b"-----BEGIN A-----", b"-----BEGIN A-----x-----END ", b"-"])
def test_a_hostile_file_is_refused_in_no_time(piece: bytes) -> None:
    content = (piece * ngrokca.MAX_BYTES)[: ngrokca.MAX_BYTES]
    started = time.process_time()
    with pytest.raises(ValueError, match="PEM"):
        anchor(content, OURS, NOW)
    assert time.process_time() - started < 0.1


def test_a_certificate_that_openssl_cannot_read_is_not_taken() -> None:
    der = bytearray(base64.b64decode("".join(PEM.splitlines()[1:-1])))
    signature = AUTHORITY.certificate.signature
    start = der.rindex(signature) - 3  # tag, length and unused bits of the BIT STRING
    assert der[start] == 0x03
    der[start] = 0x05
    with pytest.raises(ValueError, match="which OpenSSL cannot read"):
        anchor(pem_of(bytes(der)).encode(), facts.read(bytes(der)).sha256, NOW)
