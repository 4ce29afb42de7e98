"""The forwarder is pointed at the ingress, and kept pointed at what worked."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from ngrokd.cloud import trust
from ngrokd.config import DEFAULT_INGRESS, Config, ServerSettings
from ngrokd.errors import HostError, StateError
from ngrokd.ingress import IngressLink
from ngrokd.messages import JobDone, JobKind
from ngrokd.model import Address, Ingress

AT = (Address("192.0.2.1", 443),)


class Post:
    """An ingress link whose resolutions are answered by hand."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[Optional[Ingress]] = []
        self.asked = 0
        self.registered = True
        self.operator_id = "k8sop_1"
        self.ingress_endpoint = ""
        self.mark: object = 1
        monkeypatch.setattr(trust, "fingerprint", lambda *files: self.mark)
        monkeypatch.setattr(trust, "ingress_context", self._context)
        self.refuse = ""
        self.link = IngressLink(
            Config(server=ServerSettings(client_cert=str(folder / "tls.crt"))),
            self,  # type: ignore[arg-type]
            self,
            self._submit,
        )

    def set_ingress(self, ingress: Optional[Ingress]) -> None:
        self.told.append(ingress)

    def resolved(self, *addresses: Address) -> None:
        self.link.handle(JobDone(JobKind.RESOLVE, addresses))

    def unresolved(self) -> None:
        self.link.handle(JobDone(JobKind.RESOLVE, error=HostError("no such name")))

    def _submit(self, kind: JobKind, job: object) -> None:
        assert kind is JobKind.RESOLVE
        self.asked += 1

    def _context(self, *files: object) -> object:
        if self.refuse:
            raise StateError(self.refuse)
        return object()


@pytest.fixture
def post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Post:
    return Post(tmp_path, monkeypatch)


def test_the_endpoint_is_configured_or_named_by_ngrok_or_the_default(post: Post) -> None:
    assert post.link.endpoint == DEFAULT_INGRESS
    post.ingress_endpoint = "connect.example.com:443"
    assert post.link.endpoint == "connect.example.com:443"
    post.link.configure(Config(ingress_endpoint="mine.example.com:8443"))
    assert post.link.endpoint == "mine.example.com:8443"


def test_a_port_that_ngrok_leaves_out_is_443(post: Post) -> None:
    post.ingress_endpoint = "connect.example.com"
    assert (post.link.endpoint, post.link.host) == (
        "connect.example.com:443",
        "connect.example.com",
    )


def test_new_connections_get_name_addresses_and_trust(post: Post) -> None:
    post.link.refresh()
    assert not post.link.answered
    post.resolved(*AT)
    (ingress,) = post.told
    assert ingress is not None and post.link.answered
    assert (ingress.server_name, ingress.addresses) == (DEFAULT_INGRESS.partition(":")[0], AT)


def test_one_resolution_at_a_time_and_an_unchanged_answer_is_no_news(post: Post) -> None:
    post.link.refresh()
    post.link.refresh()
    assert post.asked == 1
    post.resolved(*AT)
    post.link.refresh()
    post.resolved(*AT)
    assert (post.asked, len(post.told)) == (2, 1)


def test_a_failed_resolution_keeps_what_worked_and_is_a_problem(post: Post) -> None:
    post.link.refresh()
    post.resolved(*AT)
    post.link.refresh()
    post.unresolved()
    assert post.link.problem == "no such name" and len(post.told) == 1
    post.link.refresh()
    post.resolved(*AT)
    assert post.link.problem == ""


def test_a_first_resolution_that_fails_does_not_hold_up_the_listeners(post: Post) -> None:
    post.link.refresh()
    post.unresolved()
    assert post.link.answered and not post.told


def test_a_new_certificate_or_anchor_makes_a_new_context(post: Post) -> None:
    post.link.refresh()
    post.resolved(*AT)
    post.mark = 2
    post.link.refresh()
    assert len(post.told) == 2


def test_an_anchor_that_cannot_be_read_keeps_the_old_trust_and_is_told(post: Post) -> None:
    post.link.refresh()
    post.resolved(*AT)
    post.mark, post.refuse = 2, "ca_file cannot be read"
    post.link.refresh()
    assert post.link.problem == "ca_file cannot be read" and len(post.told) == 1


def test_another_endpoint_is_resolved_anew_and_an_answer_for_the_old_one_is_dropped(
    post: Post,
) -> None:
    post.link.refresh()
    post.link.configure(Config(ingress_endpoint="other.example.com:443"))
    post.resolved(*AT)
    assert not post.told and post.asked == 2
    post.resolved(Address("192.0.2.2", 443))
    assert post.told[0] is not None and post.told[0].server_name == "other.example.com"


def test_an_ipv6_answer_is_taken_as_it_is(post: Post) -> None:
    post.link.refresh()
    post.resolved(Address("2001:db8::1", 443))
    assert post.told[0] is not None
    assert post.told[0].addresses == (Address("2001:db8::1", 443),)
