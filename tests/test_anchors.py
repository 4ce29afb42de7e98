"""When the system's trust anchors are looked up in their folder, not loaded from their file."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Any, Optional

import pytest

from ngrokd.cloud import transport, trust
from ngrokd.cloud.anchors import anchor_folder
from ngrokd.cloud.keys import new_key, signing_request
from tests.cloud_fake import Authority
from tests.test_trust import AUTHORITY as CLIENTS
from tests.test_trust import server_context, shake_hands

AUTHORITIES = [Authority(), Authority()]


class System:
    """Anchors as update-ca-certificates(8) leaves them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ca-certificates.crt"
        self.folder = folder / "certs"
        self.folder.mkdir()
        for number, authority in enumerate(AUTHORITIES):
            self.add(f"{number}.pem", authority.root_pem())
        self.rehash()

    def add(self, name: str, pem: str) -> None:
        (self.folder / name).write_text(pem)
        with self.file.open("a") as bundle:
            bundle.write(f"# {name}\n{pem}\n")

    def rehash(self) -> None:
        subprocess.run(["openssl", "rehash", self.folder], check=True)

    def paths(self) -> ssl.DefaultVerifyPaths:
        return ssl.DefaultVerifyPaths(
            str(self.file), str(self.folder), "SSL_CERT_FILE", "", "SSL_CERT_DIR", ""
        )

    def chosen(self) -> Optional[str]:
        return anchor_folder(self.paths(), {})


@pytest.fixture
def system(tmp_path: Path) -> System:
    (tmp_path / "system").mkdir()
    return System(tmp_path / "system")


def test_a_folder_with_every_anchor_of_the_file_is_taken(system: System) -> None:
    assert system.chosen() == str(system.folder)


def test_an_anchor_that_was_added_to_the_file_alone_counts(system: System) -> None:
    with system.file.open("a") as bundle:
        bundle.write(Authority().root_pem())
    assert system.chosen() is None


def test_a_folder_that_lacks_one_is_not_taken(system: System) -> None:
    (system.folder / "0.pem").unlink()  # its link leads nowhere now
    assert system.chosen() is None


def test_a_folder_without_hashes_is_not_taken(system: System) -> None:
    for path in system.folder.iterdir():
        if path.is_symlink():
            path.unlink()
    assert system.chosen() is None


def test_a_place_that_the_environment_names_is_read_as_openssl_reads_it(system: System) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        assert anchor_folder(system.paths(), {name: "/elsewhere"}) is None


def test_what_is_missing_or_cannot_be_read_leaves_it_to_openssl(system: System) -> None:
    paths = system.paths()
    missing: Any = None  # typeshed takes both for given
    assert anchor_folder(paths._replace(cafile=missing), {}) is None
    assert anchor_folder(paths._replace(capath=missing), {}) is None
    assert anchor_folder(paths._replace(capath=str(system.file)), {}) is None
    assert anchor_folder(paths._replace(cafile=str(system.folder)), {}) is None
    system.file.write_text("")
    assert system.chosen() is None


@pytest.fixture
def default(system: System, monkeypatch: pytest.MonkeyPatch) -> System:
    """It is this process's own."""
    monkeypatch.setattr(ssl, "get_default_verify_paths", system.paths)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return system


def test_an_ingress_is_trusted_by_the_folder_and_nothing_is_loaded_before(
    default: System, tmp_path: Path
) -> None:
    key = new_key()
    (tmp_path / "tls.key").write_bytes(key)
    (tmp_path / "tls.crt").write_text(CLIENTS.sign(signing_request(key)))
    pair = tmp_path / "tls.crt", tmp_path / "tls.key"
    default.add("intermediate.pem", AUTHORITIES[1].intermediate_pem())
    default.rehash()
    context = trust.ingress_context(*pair, "", tmp_path, tmp_path / "vendor")
    assert context.cert_store_stats()["x509"] == 0
    server = server_context(tmp_path, AUTHORITIES[1])
    assert shake_hands(context, server, "ingress.test") == "TLSv1.3"
    stranger = server_context(tmp_path, Authority())
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(context, stranger, "ingress.test")


def test_the_api_is_verified_by_the_folder(default: System) -> None:
    context = transport.verifying()
    assert context.cert_store_stats()["x509"] == 0
    assert context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED


def test_the_api_is_verified_by_the_file_where_the_folder_lacks_one(
    default: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    (default.folder / "0.pem").unlink()
    monkeypatch.setenv("SSL_CERT_FILE", str(default.file))
    assert transport.verifying().cert_store_stats()["x509"] == len(AUTHORITIES)
