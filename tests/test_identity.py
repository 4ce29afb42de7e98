"""The state folder: what is written before it is asked for, and what heals after damage."""

from __future__ import annotations

import errno
import json
import os
import shutil
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Optional

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ngrokd.cloud import pair, registration, statefile
from ngrokd.cloud.api import Api
from ngrokd.cloud.identity import Identity
from ngrokd.cloud.keys import new_key, signing_request
from ngrokd.cloud.operators import Operator
from ngrokd.cloud.registration import Answer, Profile, Record, Step
from ngrokd.config import ServerSettings
from ngrokd.errors import ApiRefused, ApiUnavailable, StateError
from tests.cloud_fake import KEY, Authority, FakeApi, Ngrok, Reply, Request, fifo_at

NOW = 1_760_000_000.0  # far from both ends of the certificates the tests make
ALL = ("true",)
AUTHORITY = Authority()
NOWHERE = Api("http://127.0.0.1:1", KEY, "1")  # for steps whose job is never run


def settings(folder: Path) -> ServerSettings:
    return ServerSettings(client_cert=str(folder / "tls.crt"), client_key=str(folder / "tls.key"))


def loaded(folder: Path) -> Identity:
    identity = Identity(settings(folder))
    identity.load()
    return identity


def profile(selectors: tuple[str, ...] = ALL) -> Profile:
    wanted = Identity(settings(Path("/"))).recorded(Record(), selectors).wanted
    assert wanted is not None
    return wanted


def next_step(identity: Identity, selectors: tuple[str, ...] = ALL) -> Optional[Step]:
    """What a daemon that has a key would ask for."""
    record = identity.recorded(Record(seen=True), selectors)
    return registration.next_step(record, Answer.KEY, NOW)[1]


def answer(csr: str, selectors: tuple[str, ...] = ALL, identity: str = "k8sop_1") -> Operator:
    told = profile(selectors)
    return Operator(identity, AUTHORITY.sign(csr), "ingress.test:443", "", told)


def step(identity: Identity, folder: Path, which: Step = Step.REGISTER) -> None:
    """One step as if ngrok had answered at once."""
    identity.begin(which, NOWHERE, profile())
    identity.finish(answer((folder / "tls.csr").read_text()), NOW)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state folder that is registered."""
    place = tmp_path / "state"
    step(loaded(place), place)
    assert next_step(loaded(place)) is None
    return place


def pair_works(folder: Path) -> bool:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    except OSError:
        return False
    return True


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# From nothing to registered


def test_a_fresh_machine_registers_and_is_registered_after_a_restart(tmp_path: Path) -> None:
    place = tmp_path / "etc" / "ngrokd"
    identity = Identity(settings(place))
    assert identity.load() == ()
    assert (identity.operator_id, identity.certificate_not_after) == ("", None)
    assert (identity.registered, identity.ingress_endpoint) == (False, "")
    ngrok = Ngrok()
    with FakeApi(ngrok.answer) as fake:
        api = Api(fake.url, KEY, "1")
        assert next_step(identity) is Step.REGISTER
        identity.finish(identity.begin(Step.REGISTER, api, profile())(), NOW)
    for each in (identity, loaded(place)):
        assert each.registered and each.operator_id == "k8sop_1"
        assert each.certificate_not_after == 2335219200
        assert each.ingress_endpoint == "ingress.test:443"
        assert next_step(each) is None
    assert (place / "operator_id").read_text() == "k8sop_1\n"
    assert pair_works(place)


def test_secrets_and_the_folder_are_for_their_owner_only(tmp_path: Path) -> None:
    place = tmp_path / "state"
    before = os.umask(0)
    try:
        identity = loaded(place)
        step(identity, place)
        identity.save_api_key(KEY)
        step(identity, place, Step.RENEW)
    finally:
        os.umask(before)
    assert mode(place) == 0o700
    assert mode(place / "tls.key") == mode(place / "api_key") == 0o600
    assert mode(place / "tls.crt") == mode(place / "operator_id") == 0o644


def test_a_secret_has_its_mode_from_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[int] = []
    real = os.open

    def watching(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            asked_for.append(mode)
            assert flags & os.O_EXCL
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", watching)
    statefile.write_atomic(tmp_path / "secret", b"x")
    assert asked_for == [0o600]


def test_the_key_is_p256_and_the_request_names_nobody(tmp_path: Path) -> None:
    loaded(tmp_path).begin(Step.REGISTER, NOWHERE, profile())
    key = serialization.load_pem_private_key((tmp_path / "tls.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    csr = x509.load_pem_x509_csr((tmp_path / "tls.csr").read_bytes())
    assert csr.is_signature_valid and not list(csr.subject) and not list(csr.extensions)
    assert csr.public_key() == key.public_key()


def test_key_and_request_are_on_disk_before_anything_is_sent(tmp_path: Path) -> None:
    seen: list[list[str]] = []
    ngrok = Ngrok()

    def answer(request: Request) -> Reply:
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        return ngrok.answer(request)

    with FakeApi(answer) as fake:
        loaded(tmp_path).begin(Step.REGISTER, Api(fake.url, KEY, "1"), profile())()
    assert seen == [["installation_id", "tls.csr", "tls.key"]]


def test_where_nothing_can_be_written_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = loaded(tmp_path)
    read_only(monkeypatch)
    with FakeApi(Ngrok().answer) as fake:
        with pytest.raises(StateError) as caught:
            identity.begin(Step.REGISTER, Api(fake.url, KEY, "1"), profile())
        assert fake.requests == []
    assert str(tmp_path / "tls.key") in str(caught.value)
    assert "Read-only file system" in str(caught.value)
    assert "server.client_cert" in str(caught.value)


def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refusing(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", refusing)


def test_a_registered_folder_can_be_read_where_it_cannot_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only(monkeypatch)
    identity = Identity(settings(folder))
    assert identity.load() == ()
    assert identity.registered and next_step(identity) is None


@pytest.mark.parametrize("blocked", ["state", "state/deeper"])
def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path, blocked: str) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StateError, match=r"state.* name (a folder|one) in server\.client_cert"):
        Identity(settings(tmp_path / blocked)).load()


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "operator_id").mkdir()
    with pytest.raises(StateError, match=r"operator_id"):
        Identity(settings(tmp_path)).load()


def test_a_fifo_in_the_place_of_a_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "operator_id")
    with pytest.raises(StateError, match="not a regular file"):
        Identity(settings(tmp_path)).load()


def test_other_file_names_in_other_folders_are_honoured(tmp_path: Path) -> None:
    server = ServerSettings(
        client_cert=str(tmp_path / "a" / "client.pem"), client_key=str(tmp_path / "b" / "c" / "k")
    )
    for which in (Step.REGISTER, Step.RENEW):
        identity = Identity(server)
        identity.load()
        identity.begin(which, NOWHERE, profile())
        identity.finish(answer((tmp_path / "a" / "client.csr").read_text()), NOW)
    again = Identity(server)
    assert again.load() == () and again.registered
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "client.csr",
        "client.pem",
        "installation_id",
        "operator_id",
        "registration.json",
    ]
    assert [path.name for path in (tmp_path / "b" / "c").iterdir()] == ["k"]


def test_one_file_for_key_and_certificate_is_refused_before_it_is_overwritten(
    tmp_path: Path,
) -> None:
    both = str(tmp_path / "both.pem")
    identity = Identity(ServerSettings(client_cert=both, client_key=both))
    identity.load()
    with pytest.raises(StateError, match="a file each"):
        identity.begin(Step.REGISTER, NOWHERE, profile())
    assert not (tmp_path / "both.pem").exists()


def test_symbolic_links_stay_links(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("tls.key", "tls.crt", "operator_id"):
        (folder / name).rename(elsewhere / name)
        (folder / name).symlink_to(elsewhere / name)
    identity = loaded(folder)
    old = (elsewhere / "tls.key").read_bytes()
    step(identity, folder, Step.RENEW)
    assert (folder / "tls.key").is_symlink() and (folder / "tls.crt").is_symlink()
    assert (elsewhere / "tls.key").read_bytes() != old
    assert loaded(folder).registered


# Steps of a registered machine


def test_a_renewal_has_a_new_key_and_replaces_both_files(folder: Path) -> None:
    old = [(folder / name).read_bytes() for name in ("tls.key", "tls.crt")]
    identity = loaded(folder)
    identity.begin(Step.RENEW, NOWHERE, profile())
    assert [(folder / name).read_bytes() for name in ("tls.key", "tls.crt")] == old
    identity.finish(answer((folder / "tls.csr").read_text()), NOW)
    assert (folder / "tls.key").read_bytes() != old[0]
    assert (folder / "tls.crt").read_bytes() != old[1]
    assert pair_works(folder)
    assert not list(folder.glob("*.next"))


def test_a_renewal_without_an_answer_leaves_the_old_pair(folder: Path) -> None:
    loaded(folder).begin(Step.RENEW, NOWHERE, profile())
    again = loaded(folder)
    assert again.registered and next_step(again) is None
    assert not list(folder.glob("*.next"))


def test_a_certificate_that_fits_no_key_is_refused_and_the_old_pair_stays(folder: Path) -> None:
    identity = loaded(folder)
    identity.begin(Step.RENEW, NOWHERE, profile())
    foreign = answer(signing_request(new_key()))
    with pytest.raises(ApiUnavailable, match="does not fit"):
        identity.finish(foreign, NOW)
    assert identity.registered and pair_works(folder)
    assert loaded(folder).registered


def test_changed_selectors_are_told_once(folder: Path) -> None:
    identity = loaded(folder)
    assert next_step(identity, ("x", "y")) is Step.UPDATE
    identity.finish(Operator("k8sop_1", told=profile(("x", "y"))), NOW)
    for each in (identity, loaded(folder)):
        assert next_step(each, ("x", "y")) is None
        assert next_step(each) is Step.UPDATE
        assert each.ingress_endpoint == "ingress.test:443"  # an answer without one forgets nothing


def test_an_update_needs_no_key_and_makes_none(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    loaded(folder).begin(Step.UPDATE, NOWHERE, profile(("x",)))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_lost_operator_is_registered_again_with_the_same_key(folder: Path) -> None:
    key = (folder / "tls.key").read_bytes()
    identity = loaded(folder)
    identity.lost()
    identity.lost()
    assert not identity.registered and identity.operator_id == ""
    assert next_step(identity) is Step.REGISTER
    identity = loaded(folder)
    identity.begin(Step.REGISTER, NOWHERE, profile())
    identity.finish(answer((folder / "tls.csr").read_text(), identity="k8sop_2"), NOW)
    assert (folder / "tls.key").read_bytes() == key
    assert loaded(folder).operator_id == "k8sop_2"


def test_an_operator_can_be_lost_where_nothing_can_be_written(folder: Path) -> None:
    identity = loaded(folder)
    (folder / "operator_id").unlink()
    (folder / "operator_id").mkdir()
    identity.lost()
    assert identity.operator_id == "" and next_step(identity) is Step.REGISTER


def test_a_look_at_the_operator_learns_the_ingress_and_forgets_nothing(folder: Path) -> None:
    identity = loaded(folder)
    pair = [(folder / name).read_bytes() for name in ("tls.crt", "tls.key")]
    identity.begin(Step.LOOK, NOWHERE, profile())
    identity.finish(Operator("k8sop_1", ingress_endpoint="moved.test:443"), NOW)
    for each in (identity, loaded(folder)):
        assert each.ingress_endpoint == "moved.test:443" and next_step(each) is None
    assert pair == [(folder / name).read_bytes() for name in ("tls.crt", "tls.key")]


def test_a_renewal_for_an_operator_that_was_lost_registers_instead(folder: Path) -> None:
    identity = loaded(folder)
    identity.lost()
    ngrok = Ngrok()
    with FakeApi(ngrok.answer) as fake:
        job = identity.begin(Step.RENEW, Api(fake.url, KEY, "1"), profile())
        identity.finish(job(), NOW)
    assert identity.registered and list(ngrok.operators) == ["k8sop_1"]


def test_two_machines_have_two_marks(tmp_path: Path) -> None:
    ngrok = Ngrok()
    with FakeApi(ngrok.answer) as fake:
        for name in ("a", "b", "a"):
            identity = loaded(tmp_path / name)
            identity.begin(Step.REGISTER, Api(fake.url, KEY, "1"), profile())()
    assert len(ngrok.operators) == 2


# The key set at run time


def test_the_api_key_is_kept_over_a_restart(tmp_path: Path) -> None:
    assert loaded(tmp_path).saved_api_key() == ""
    loaded(tmp_path).save_api_key(f"{KEY}\n")
    assert loaded(tmp_path).saved_api_key() == KEY


@pytest.mark.parametrize("key", ["", " ", "a", "1234567", "two words", "a\nb", "é" * 20])
def test_what_cannot_be_a_key_does_not_replace_one(tmp_path: Path, key: str) -> None:
    identity = loaded(tmp_path)
    identity.save_api_key(KEY)
    with pytest.raises(ApiRefused):
        identity.save_api_key(key)
    assert identity.saved_api_key() == KEY


@pytest.mark.parametrize("content", [b"", b"\n", b"a", b"\xff\xfe", b"two words", b"\0" * 64])
def test_a_damaged_api_key_is_kept_beside_and_not_used(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "api_key").write_bytes(content)
    assert loaded(tmp_path).saved_api_key() == ""
    assert (tmp_path / "api_key.corrupt").read_bytes() == content


# Damage

DAMAGE: list[Optional[bytes]] = [None, b"", b"\0" * 4096, b"\xff junk \n" * 10, b"x" * (2 << 20)]


@pytest.mark.parametrize("content", DAMAGE)
@pytest.mark.parametrize(
    ("name", "due"),
    [
        ("operator_id", Step.REGISTER),
        ("tls.crt", Step.REGISTER),
        ("tls.key", Step.REGISTER),
        ("registration.json", Step.UPDATE),
        ("installation_id", None),
        ("tls.csr", None),
    ],
)
def test_a_damaged_or_missing_file_heals(
    folder: Path, name: str, due: Optional[Step], content: Optional[bytes]
) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    identity = Identity(settings(folder))
    notes = identity.load()
    assert next_step(identity) is due
    if content is not None and due:
        assert any(f"{name}.corrupt" in note for note in notes)
        assert (folder / f"{name}.corrupt").read_bytes() == content
    step(identity, folder, due or Step.RENEW)
    again = Identity(settings(folder))
    assert again.load() == ()
    assert again.registered and next_step(again) is None and pair_works(folder)


@pytest.mark.parametrize("size", range(0, 460, 45))
def test_a_half_written_certificate_or_key_heals(folder: Path, size: int) -> None:
    for name in ("tls.crt", "tls.key"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: min(size, len(whole) - 30)])
    identity = loaded(folder)
    assert not identity.registered
    step(identity, folder)
    assert loaded(folder).registered and pair_works(folder)


# Damage while running


def register_at(ngrok: Ngrok, identity: Identity) -> None:
    """The step that is due, with a real answer."""
    with FakeApi(ngrok.answer) as fake:
        which = next_step(identity)
        assert which is not None
        identity.finish(identity.begin(which, Api(fake.url, KEY, "1"), profile())(), NOW)


@pytest.fixture
def running(tmp_path: Path) -> tuple[Path, Identity, Ngrok]:
    """A registered machine, as the daemon holds it."""
    ngrok, place = Ngrok(), tmp_path / "state"
    identity = loaded(place)
    register_at(ngrok, identity)
    assert next_step(identity) is None and identity.registered
    return place, identity, ngrok


Running = tuple[Path, Identity, Ngrok]


@pytest.mark.parametrize("content", DAMAGE)
@pytest.mark.parametrize("names", [("tls.crt",), ("tls.key",), ("tls.crt", "tls.key")])
def test_a_pair_that_goes_while_running_is_noticed_and_asked_for_anew(
    running: Running, names: tuple[str, ...], content: Optional[bytes]
) -> None:
    place, identity, ngrok = running
    for name in names:
        (place / name).unlink()
        if content is not None:
            (place / name).write_bytes(content)
    assert next_step(identity) is Step.REGISTER
    assert not identity.registered and identity.certificate_not_after is None
    assert identity.operator_id == "k8sop_1"
    register_at(ngrok, identity)
    assert identity.registered and pair_works(place)
    assert next_step(identity) is None
    assert list(ngrok.operators) == ["k8sop_1"]


def test_registered_tells_the_truth_before_anybody_asks_for_the_next_step(running: Running) -> None:
    place, identity, _ = running
    (place / "tls.key").unlink()
    assert not identity.registered and identity.certificate_not_after is None


def test_a_pair_that_comes_back_is_used_again(running: Running, tmp_path: Path) -> None:
    place, identity, _ = running
    (place / "tls.crt").rename(tmp_path / "away")
    assert next_step(identity) is Step.REGISTER
    (tmp_path / "away").rename(place / "tls.crt")
    assert next_step(identity) is None and identity.registered


def test_a_pair_that_is_replaced_file_by_file_is_not_put_aside(running: Running) -> None:
    place, identity, _ = running
    key = new_key()
    certificate = AUTHORITY.sign(signing_request(key))
    (place / "tls.crt").write_text(certificate)
    assert next_step(identity) is Step.REGISTER
    (place / "tls.key").write_bytes(key)
    assert next_step(identity) is None and identity.registered
    assert (place / "tls.crt").read_text() == certificate
    assert not list(place.glob("*.corrupt"))


def test_a_look_during_a_renewal_leaves_its_new_key_alone(running: Running) -> None:
    place, identity, ngrok = running
    with FakeApi(ngrok.answer) as fake:
        job = identity.begin(Step.RENEW, Api(fake.url, KEY, "1"), profile())
        (place / "tls.crt").unlink()
        assert not identity.registered
        identity.finish(job(), NOW)
    assert identity.registered and pair_works(place)


def test_a_pair_that_did_not_change_is_not_read_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, identity, _ = running
    next_step(identity)
    reads: list[Path] = []
    monkeypatch.setattr(statefile, "read", reads.append)
    for _ in range(3):
        assert next_step(identity) is None and identity.registered
    assert reads == []


def test_a_pair_that_goes_is_told_once(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    place, identity, _ = running
    (place / "tls.key").unlink()
    for _ in range(3):
        next_step(identity)
    (place / "tls.crt").unlink()
    next_step(identity)
    (line,) = [each.getMessage() for each in caplog.records]
    assert "tls.key" in line and "a new certificate is asked for" in line


@pytest.mark.parametrize("name", ["tls.crt", "tls.key"])
def test_a_fifo_in_the_place_of_a_pair_that_is_used_does_not_hang(
    running: Running, name: str
) -> None:
    place, identity, _ = running
    (place / name).unlink()
    with fifo_at(place / name):
        assert next_step(identity) is Step.REGISTER
        assert not identity.registered


def test_a_state_folder_that_is_removed_while_running_is_made_again(running: Running) -> None:
    place, identity, ngrok = running
    shutil.rmtree(place)
    assert next_step(identity) is Step.REGISTER
    register_at(ngrok, identity)
    assert mode(place) == 0o700
    for each in (identity, loaded(place)):
        assert each.registered and each.operator_id == "k8sop_1"
        assert each.ingress_endpoint == "ingress.test:443"
        assert next_step(each) is None
    assert pair_works(place) and list(ngrok.operators) == ["k8sop_1"]


def test_a_renewal_makes_the_folders_that_are_gone(tmp_path: Path) -> None:
    server = ServerSettings(
        client_cert=str(tmp_path / "a" / "tls.crt"), client_key=str(tmp_path / "b" / "tls.key")
    )
    identity = Identity(server)
    identity.load()
    for name in ("a", "b"):
        (tmp_path / name).rmdir()
    identity.begin(Step.RENEW, NOWHERE, profile())
    assert (tmp_path / "a" / "tls.csr").exists() and mode(tmp_path / "b") == 0o700


def test_a_folder_that_goes_while_ngrok_is_asked_is_a_fault_that_the_next_try_mends(
    running: Running,
) -> None:
    place, identity, ngrok = running
    with FakeApi(ngrok.answer) as fake:
        job = identity.begin(Step.RENEW, Api(fake.url, KEY, "1"), profile())
        shutil.rmtree(place)
        with pytest.raises(StateError):
            identity.finish(job(), NOW)
    assert not identity.registered
    register_at(ngrok, identity)
    assert loaded(place).registered


def test_a_key_set_after_the_folder_was_removed_is_kept(running: Running) -> None:
    place, identity, _ = running
    shutil.rmtree(place)
    identity.save_api_key(KEY)
    assert mode(place) == 0o700
    assert loaded(place).saved_api_key() == KEY


def test_a_certificate_of_another_key_is_put_aside_and_the_key_kept(folder: Path) -> None:
    key = (folder / "tls.key").read_bytes()
    (folder / "tls.crt").write_text(AUTHORITY.sign(signing_request(new_key())))
    identity = Identity(settings(folder))
    (note,) = identity.load()
    assert "does not fit" in note and "tls.crt.corrupt" in note
    step(identity, folder)
    assert (folder / "tls.key").read_bytes() == key


def test_a_key_that_is_encrypted_or_rsa_is_replaced(tmp_path: Path) -> None:
    encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    other = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    for number, key in enumerate((encrypted, other)):
        place = tmp_path / str(number)
        place.mkdir()
        (place / "tls.key").write_bytes(key)
        (place / "tls.crt").write_text(AUTHORITY.sign(signing_request(new_key())))
        step(loaded(place), place)
        assert loaded(place).registered
        assert (place / "tls.key.corrupt").read_bytes() == key


def test_an_encrypted_key_asks_no_terminal_for_its_password(folder: Path) -> None:
    encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (folder / "tls.key").write_bytes(encrypted)
    code = "import sys; from tests.test_identity import *; print(loaded(Path(sys.argv[1])))"
    terminal, inside = os.openpty()
    try:
        daemon = subprocess.run(
            ["setsid", "--ctty", "--wait", sys.executable, "-c", code, str(folder)],
            stdin=inside,
            capture_output=True,
            timeout=30,
            cwd=Path(__file__).parent.parent,
        )
    finally:
        os.close(terminal)
        os.close(inside)
    assert daemon.returncode == 0, daemon.stderr
    assert (folder / "tls.key.corrupt").read_bytes() == encrypted


def test_an_operator_id_with_a_line_break_is_read(folder: Path) -> None:
    (folder / "operator_id").write_text(" k8sop_1 \r\n\n")
    assert loaded(folder).operator_id == "k8sop_1"


def test_the_folder_of_the_existing_daemon_is_taken_over(folder: Path) -> None:
    for name in ("registration.json", "installation_id", "tls.csr"):
        (folder / name).unlink()
    key = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    (folder / "tls.key").write_bytes(key)
    (folder / "tls.crt").write_text(AUTHORITY.sign(signing_request(key)))
    identity = Identity(settings(folder))
    assert identity.load() == ()
    assert identity.registered and next_step(identity) is Step.UPDATE


def test_a_key_that_everyone_can_read_is_closed_and_reported(folder: Path) -> None:
    (folder / "tls.key").chmod(0o644)
    (note,) = Identity(settings(folder)).load()
    assert "640" in note and mode(folder / "tls.key") == 0o640


def test_what_a_crash_left_half_written_is_swept_and_nothing_else(folder: Path) -> None:
    ours = folder / ".tls.key.0123456789abcdef.tmp"
    others = [folder / name for name in (".tls.key.tmp", ".x.0123456789abcdef.tmp", "notes.tmp")]
    for path in (ours, *others):
        path.write_text("x")
    loaded(folder)
    assert not ours.exists() and all(path.exists() for path in others)


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EXDEV])
def test_a_file_that_cannot_be_renamed_onto_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "tls.key"
    path.write_bytes(b"longer than the new one")
    inode = path.stat().st_ino
    monkeypatch.setattr(os, "rename", fail_with(code))
    monkeypatch.setattr(os, "replace", fail_with(code))
    monkeypatch.setattr(Path, "replace", fail_with(code))
    statefile.write_atomic(path, b"new")
    assert path.read_bytes() == b"new" and path.stat().st_ino == inode
    assert list(tmp_path.iterdir()) == [path]


def fail_with(code: int) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return fail


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "operator_id"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail_with(errno.ENOSPC))
    with pytest.raises(StateError, match=r"operator_id.*No space left.*free some space"):
        statefile.write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


# A crash at every step


class Dead(BaseException):
    """The process is gone: nothing it wanted to do afterwards happens."""


class Disk:
    """Counts what changes the disk; from the `fatal`-th change on every one fails."""

    CHANGES = ("open", "fsync", "fchmod", "unlink", "replace", "rename")

    def __init__(self, fatal: int, failure: Callable[[], BaseException], lasting: bool) -> None:
        self.fatal = fatal
        self.failure = failure
        self.lasting = lasting
        self.changes = 0

    def attach(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in self.CHANGES:
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, real: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **more: object) -> object:
            if real.__name__ == "open" and not creates(args[1]):
                return real(*args, **more)
            self.changes += 1
            if self.changes == self.fatal or (self.lasting and self.changes > self.fatal):
                raise self.failure()
            return real(*args, **more)

        return counted


def creates(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & os.O_CREAT)


def run_until_dead(action: Callable[[], None], disk: Disk) -> bool:
    """Whether it went through to the end. The clean-up that Python does is not the disk's."""
    with pytest.MonkeyPatch.context() as patch:
        disk.attach(patch)
        try:
            action()
        except (Dead, StateError):
            return False
        return True


FAILURES: list[tuple[Callable[[], BaseException], bool]] = [
    (Dead, True),
    (lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), True),
    (lambda: OSError(errno.EIO, os.strerror(errno.EIO)), False),
]
MAX_CHANGES = 80  # more than any step makes; the last runs go through


@pytest.mark.parametrize(("failure", "lasting"), FAILURES)
def test_a_registration_cut_anywhere_heals_with_one_operator(
    tmp_path: Path, failure: Callable[[], BaseException], lasting: bool
) -> None:
    ended = []
    with FakeApi(Ngrok().answer) as fake:
        api = Api(fake.url, KEY, "1")
        for fatal in range(1, MAX_CHANGES):
            ngrok, place = Ngrok(), tmp_path / str(fatal)
            fake.answer = ngrok.answer
            disk = Disk(fatal, failure, lasting)
            ended.append(run_until_dead(lambda at=place: run_step(at, api), disk))  # type: ignore[misc]
            if ended[-2:] == [True, True]:
                break
            heal(place, api)
            assert len(ngrok.operators) == 1
    assert ended[0] is False and ended[-1] is True and len(ended) > 15


@pytest.mark.parametrize(("failure", "lasting"), FAILURES)
def test_a_renewal_cut_anywhere_leaves_a_pair_that_works(
    tmp_path: Path, failure: Callable[[], BaseException], lasting: bool
) -> None:
    ended = []
    ngrok = Ngrok()
    with FakeApi(ngrok.answer) as fake:
        api = Api(fake.url, KEY, "1")
        for fatal in range(1, MAX_CHANGES):
            place = tmp_path / str(fatal)
            run_step(place, api)
            disk = Disk(fatal, failure, lasting)
            renew = lambda at=place: run_step(at, api, Step.RENEW)  # noqa: E731
            ended.append(run_until_dead(renew, disk))
            if ended[-2:] == [True, True]:
                break
            identity = loaded(place)
            assert identity.registered and pair_works(place)
            assert next_step(identity) is None
            assert not list(place.glob("*.next")) and not list(place.glob(".*.tmp"))
    assert ended[0] is False and ended[-1] is True and len(ended) > 15


def run_step(place: Path, api: Api, which: Step = Step.REGISTER) -> None:
    identity = loaded(place)
    identity.finish(identity.begin(which, api, profile())(), NOW)


def heal(place: Path, api: Api) -> None:
    """The next start: whatever is asked for is done, and then all is well."""
    identity = loaded(place)
    for _ in range(2):
        wanted = next_step(identity)
        if wanted is not None:
            identity.finish(identity.begin(wanted, api, profile())(), NOW)
    again = Identity(settings(place))
    assert again.load() == ()
    assert again.registered and next_step(again) is None and pair_works(place)


def test_a_daemon_that_goes_on_after_a_full_disk_heals_without_a_restart(folder: Path) -> None:
    ngrok = Ngrok()
    ngrok.operators["k8sop_1"] = {"id": "k8sop_1", "metadata": ""}
    with FakeApi(ngrok.answer) as fake:
        api = Api(fake.url, KEY, "1")
        for fatal in range(1, MAX_CHANGES):
            identity = loaded(folder)
            disk = Disk(fatal, lambda: OSError(errno.ENOSPC, "full"), lasting=True)
            renew = lambda at=identity: at.finish(at.begin(Step.RENEW, api, profile())(), NOW)  # noqa: E731
            if run_until_dead(renew, disk):
                break
            assert identity.registered is pair_works(folder)
            again = Step.RENEW if identity.registered else Step.REGISTER
            assert next_step(identity) in (None, again)
            identity.finish(identity.begin(again, api, profile())(), NOW)
            assert identity.registered and pair_works(folder)
    assert fatal > 10


def test_nothing_of_a_secret_is_in_the_notes_or_files_of_others(folder: Path) -> None:
    identity = loaded(folder)
    identity.save_api_key(KEY)
    assert KEY not in repr(identity)
    told = json.loads((folder / "registration.json").read_text())
    assert set(told) == {"operator_id", "ingress_endpoint", "selectors", "host_name", "version"}


def test_a_circle_of_links_in_the_place_of_a_key_raises_nothing_that_nobody_expects(
    tmp_path: Path,
) -> None:
    circle = tmp_path / "tls.key"
    circle.symlink_to(circle)
    assert pair._real(circle) == circle
