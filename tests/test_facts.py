"""What a certificate says of itself, whoever made it."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import re
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID, ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from ngrokd.cloud import der, facts
from ngrokd.cloud.facts import MAX_NAMES, MAX_TEXT, Facts, read
from tests.cloud_fake import Authority

UTC = datetime.timezone.utc
BEGIN = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
END = datetime.datetime(2051, 2, 3, 4, 5, 6, tzinfo=UTC)  # a GeneralizedTime
KEY = ec.generate_private_key(ec.SECP256R1())
AUTHORITY = Authority()


def made(
    *name: x509.NameAttribute[str],
    names: tuple[x509.GeneralName, ...] = (),
    constraints: tuple[x509.BasicConstraints, ...] = (),
) -> bytes:
    subject = x509.Name(name or (x509.NameAttribute(NameOID.COMMON_NAME, "a.test"),))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Issuer")]))
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(BEGIN)
        .not_valid_after(END)
    )
    for each in constraints:
        builder = builder.add_extension(each, critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


WHOLE = made(
    x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test Inc"),
    x509.NameAttribute(NameOID.COMMON_NAME, "a.test"),
    names=(x509.DNSName("a.test"), x509.IPAddress(ipaddress.ip_address("::1"))),
    constraints=(x509.BasicConstraints(ca=True, path_length=0),),
)


def test_all_that_is_shown_of_a_certificate_is_read() -> None:
    digest = hashlib.sha256(WHOLE).hexdigest().upper()
    assert read(WHOLE) == Facts(
        subject="C=US, O=Test Inc, CN=a.test",
        issuer="CN=Issuer",
        not_before=BEGIN.timestamp(),
        not_after=END.timestamp(),
        names=("a.test", "::1"),
        is_authority=True,
        sha256=":".join(digest[at : at + 2] for at in range(0, 64, 2)),
    )


def test_openssl_shows_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a.pem"
    file.write_text(ssl.DER_cert_to_PEM_cert(WHOLE))
    argv = ["openssl", "x509", "-in", str(file), "-noout", "-fingerprint", "-sha256"]
    argv += ["-subject", "-nameopt", "oneline,-space_eq"]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found = read(WHOLE)
    assert shown.splitlines()[0].partition("=")[2] == found.sha256
    assert shown.splitlines()[1].partition("=")[2] == found.subject


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        ((), False),
        ((x509.BasicConstraints(ca=False, path_length=None),), False),
        ((x509.BasicConstraints(ca=True, path_length=None),), True),
        ((x509.BasicConstraints(ca=True, path_length=3),), True),
    ],
)
def test_a_ca_is_one_that_says_so(
    constraints: tuple[x509.BasicConstraints, ...], expected: bool
) -> None:
    assert read(made(constraints=constraints)).is_authority is expected


@pytest.mark.parametrize(
    ("kind", "text", "shown"),
    [
        (_ASN1Type.UTF8String, "Bücher", "CN=Bücher"),
        (_ASN1Type.PrintableString, "plain", "CN=plain"),
        (_ASN1Type.BMPString, "Bücher", "CN=Bücher"),
        (_ASN1Type.IA5String, "ia5", "CN=ia5"),
        (_ASN1Type.UTF8String, "a, O=ngrok Inc", "CN=a\\, O\\=ngrok Inc"),
        (_ASN1Type.UTF8String, "a\nb\x1b[31m\u202e", "CN=a?b?[31m?"),
    ],
)
def test_names_of_every_kind_are_shown_on_one_harmless_line(
    kind: _ASN1Type, text: str, shown: str
) -> None:
    name = x509.NameAttribute(NameOID.COMMON_NAME, text, _type=kind)
    assert read(made(name)).subject == shown


def test_what_has_no_name_of_its_own_is_shown_by_its_number() -> None:
    oid = ObjectIdentifier("1.3.6.1.4.1.99999.300")
    assert read(made(x509.NameAttribute(oid, "x"))).subject == "1.3.6.1.4.1.99999.300=x"


def test_long_names_and_many_names_are_cut() -> None:
    oid = ObjectIdentifier("2.5.4.13")  # a description, which has no bound of its own
    found = read(
        made(
            x509.NameAttribute(oid, "y" * 5000),
            names=tuple(x509.DNSName(f"{number}.test") for number in range(300)),
        )
    )
    assert len(found.subject) == MAX_TEXT + len("...")
    assert found.names == tuple(f"{number}.test" for number in range(MAX_NAMES))


# Not a test for each length: they must be the same in every worker, and certificates differ.
@pytest.mark.parametrize("first", range(7))
def test_a_certificate_that_is_cut_short_is_none(first: int) -> None:
    for length in range(first, len(WHOLE), 7):
        with pytest.raises(ValueError, match="certificate"):
            read(WHOLE[:length])


def test_damage_is_told_in_words_for_people() -> None:
    for start in range(0, len(WHOLE), 3):
        try:
            read(WHOLE[:start] + b"\x9a" + WHOLE[start + 1 :])
        except ValueError as exc:
            assert re.match("(its certificate|something follows its certificate)", str(exc))
            assert "0x" not in str(exc) and "codec" not in str(exc)


def test_what_is_too_large_is_none() -> None:
    """A peer chooses how much there is to read."""
    many = made(names=tuple(x509.DNSName(f"{number:060}.test") for number in range(1000)))
    with pytest.raises(ValueError, match="too large"):
        read(many)
    with pytest.raises(ValueError, match="too long"):
        der.dotted(b"\xff" * 65)


def test_something_after_a_certificate_is_an_error() -> None:
    with pytest.raises(ValueError, match="follows"):
        read(WHOLE + b"\0")


def test_an_extension_that_comes_twice_is_an_error() -> None:
    """Which of two basic constraints counts would be a guess."""
    once = made(constraints=(x509.BasicConstraints(ca=True, path_length=None),))
    tbs = der.take(once, der.SEQUENCE)[0]
    body, rest = der.take(tbs, der.SEQUENCE)
    start = body.rindex(b"\xa3")  # the extensions
    listed = der.take(der.take(body[start:], 0xA3)[0], der.SEQUENCE)[0]
    doubled = body[:start] + element(0xA3, element(0x30, listed * 2))
    with pytest.raises(ValueError, match="twice"):
        read(element(0x30, element(0x30, doubled) + rest))


def element(tag: int, content: bytes) -> bytes:
    length = len(content)
    head = bytes([length]) if length < 0x80 else b"\x82" + length.to_bytes(2, "big")
    return bytes([tag]) + head + content


@given(st.binary(max_size=400))
def test_any_bytes_are_a_certificate_or_a_value_error(content: bytes) -> None:
    try_to_read(content)


@settings(max_examples=400)
@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255), st.integers(0, len(WHOLE)))
def test_a_certificate_with_a_byte_changed_is_harmless(at: int, byte: int, end: int) -> None:
    try_to_read(WHOLE[:at] + bytes([byte]) + WHOLE[at + 1 :])
    try_to_read((WHOLE[:at] + bytes([byte]) + WHOLE[at + 1 :])[:end])


def try_to_read(content: bytes) -> None:
    try:
        found = facts.read(content)
    except ValueError:
        return
    for text in (found.subject, found.issuer, *found.names):
        assert text.isprintable() and len(text) <= MAX_TEXT + len("...")
