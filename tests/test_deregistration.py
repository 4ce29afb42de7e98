"""What a purge deletes at ngrok, and when it stops because it could not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ngrokd.cloud.operators import Wish, creation
from ngrokd.cloud.registration import Profile
from ngrokd.config import ApiSettings, Config, ServerSettings
from ngrokd.errors import HostError
from ngrokd.verbs.deregistration import Registration, deregister, registration
from tests.api_room import Serve, no_proxies, serve
from tests.cloud_fake import KEY, Ngrok, Reply

__all__ = ["no_proxies", "serve"]  # fixtures

ME = "0123456789abcdef0123456789abcdef"
AGAIN = "ngrokd uninstall --purge"


def known(folder: Path, url: str, key: str = KEY, **files: str) -> Registration:
    for name, word in files.items():
        (folder / name).write_text(f"{word}\n")
    server = ServerSettings(client_cert=str(folder / "tls.crt"))
    return registration(Config(api=ApiSettings(url=url, key=key), server=server), {}, AGAIN)


def registered(*installations: str) -> Ngrok:
    """An account with an operator for each of them, k8sop_1 and so on."""
    ngrok = Ngrok()
    for number, each in enumerate(installations, 1):
        body = creation(Wish(each, Profile((), "host-1", "1")))
        ngrok.operators[f"k8sop_{number}"] = {**body, "id": f"k8sop_{number}"}
    return ngrok


def test_the_operator_that_is_known_is_deleted(serve: Serve, tmp_path: Path) -> None:
    ngrok = registered("other", ME)
    fake = serve(ngrok.answer)
    found = known(tmp_path, fake.url, operator_id="k8sop_2", installation_id=ME)
    assert deregister(found) == [f"deleted operator k8sop_2 at {fake.url}"]
    assert set(ngrok.operators) == {"k8sop_1"}
    assert [each.method for each in fake.requests] == ["DELETE"]


def test_one_that_a_crash_kept_from_being_noted_is_found_by_its_mark(
    serve: Serve, tmp_path: Path
) -> None:
    ngrok = registered("other", ME)
    fake = serve(ngrok.answer)
    found = known(tmp_path, fake.url, installation_id=ME)
    assert found.may_be_there and "if there is one" in found.named
    assert deregister(found) == [f"deleted operator k8sop_2 at {fake.url}"]
    assert set(ngrok.operators) == {"k8sop_1"}
    assert deregister(found) == []


@pytest.mark.parametrize(("key", "mark"), [(KEY, ""), ("", ME), ("", "")])
def test_where_nothing_can_be_there_nobody_is_asked(
    serve: Serve, tmp_path: Path, key: str, mark: str
) -> None:
    fake = serve(registered(ME).answer)
    found = known(tmp_path, fake.url, key, installation_id=mark)
    assert not found.may_be_there and deregister(found) == []
    assert fake.requests == []


@pytest.mark.parametrize("operator_id", ["k8sop_1", ""])
def test_a_purge_that_cannot_reach_ngrok_stops(
    serve: Serve, tmp_path: Path, operator_id: str
) -> None:
    fake = serve(lambda _: Reply(404, body=b"default backend - 404"))
    found = known(tmp_path, fake.url, operator_id=operator_id, installation_id=ME)
    with pytest.raises(HostError, match=f"is still at ngrok.*run `{AGAIN}` again.*--force"):
        deregister(found)


def test_a_key_that_never_worked_keeps_only_a_known_operator_from_being_purged(
    serve: Serve, tmp_path: Path
) -> None:
    fake = serve(lambda _: Reply(401, {"error_code": "ERR_NGROK_203", "msg": "no"}))
    (line,) = deregister(known(tmp_path, fake.url, installation_id=ME))
    assert "none can be looked for" in line and "ERR_NGROK_203" in line
    with pytest.raises(HostError, match="operator k8sop_1 is still at ngrok"):
        deregister(known(tmp_path, fake.url, operator_id="k8sop_1"))
