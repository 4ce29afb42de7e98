"""The forwarder is pointed at the ingress, and kept pointed at what worked."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any, Optional

import pytest

from ngrokd.cloud import facts, ngrokca, trust
from ngrokd.cloud.distrust import Finding, Verdict
from ngrokd.config import DEFAULT_INGRESS, ApiSettings, Config, ServerSettings
from ngrokd.errors import ControlError, HostError, StateError
from ngrokd.messages import JobDone, JobKind, Trust
from ngrokd.model import Address, Ingress
from ngrokd.upkeep.ingress import LOOK_S, IngressLink
from ngrokd.upkeep.trustwatch import FIRST_PAUSE_S, LONGEST_PAUSE_S
from tests.cloud_fake import Authority

AT = (Address("192.0.2.1", 443),)
PEM = Authority().intermediate_pem()
SHA256 = facts.read(ngrokca._only_certificate(PEM.encode())).sha256
TRUSTED = Finding(Verdict.TRUSTED)
UNTRUSTED = Finding(Verdict.UNTRUSTED, "unable to get local issuer certificate")
AWAY = Finding(Verdict.UNREACHABLE, "connection refused")


class Post:
    """An ingress link whose resolutions are answered by hand."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[Optional[Ingress]] = []
        self.asked = self.looks = self.fetches = 0
        self.met = (0, 0, 0)
        self.now = 1000.0
        self.registered = True
        self.operator_id = "k8sop_1"
        self.ingress_endpoint = ""
        self.mark: object = 1
        self.state = folder
        self.made = 0
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

    def verdicts(self) -> tuple[int, int, int]:
        return self.met

    def resolved(self, *addresses: Address) -> None:
        self.link.handle(JobDone(JobKind.RESOLVE, addresses), self.now)

    def unresolved(self) -> None:
        self.link.handle(JobDone(JobKind.RESOLVE, error=HostError("no such name")), self.now)

    def tick(self, seconds: float = LOOK_S) -> None:
        """Time passes."""
        self.now += seconds
        self.link.tick(self.now)

    def found(self, finding: Finding) -> None:
        """The look under way ends."""
        self.link.handle(JobDone(JobKind.LOOK, finding), self.now)

    def fetched(self, content: bytes = b"", error: Optional[Exception] = None) -> None:
        """The fetch under way ends."""
        self.link.handle(JobDone(JobKind.FETCH_CA, content, error), self.now)

    def give(self, pem: str, sha256: str) -> Future[Any]:
        """A person has it trusted."""
        reply: Future[Any] = Future()
        self.link.install(Trust(pem, sha256, reply))
        return reply

    def _submit(self, kind: JobKind, job: object) -> None:
        self.asked += kind is JobKind.RESOLVE
        self.looks += kind is JobKind.LOOK
        self.fetches += kind is JobKind.FETCH_CA

    def _context(self, *files: object) -> object:
        self.made += 1
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
    assert post.link.problems == ("no such name",) and len(post.told) == 1
    post.link.refresh()
    post.resolved(*AT)
    assert not post.link.problems


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
    assert post.link.problems == ("ca_file cannot be read",) and len(post.told) == 1


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


@pytest.mark.parametrize("named", ["nonsense:0", "::1", "a b", "https://a.test"])
def test_an_endpoint_of_ngroks_that_is_none_counts_as_not_named(post: Post, named: str) -> None:
    post.ingress_endpoint = named
    assert post.link.endpoint == DEFAULT_INGRESS


def test_an_ipv6_endpoint_is_shown_in_brackets_and_verified_without(post: Post) -> None:
    post.ingress_endpoint = "[2001:DB8::1]"
    assert (post.link.endpoint, post.link.host) == ("[2001:db8::1]:443", "2001:db8::1")
    post.link.refresh()
    post.resolved(Address("2001:db8::1", 443))
    assert post.told[0] is not None and post.told[0].server_name == "2001:db8::1"


# Trust


@pytest.fixture
def met(post: Post) -> Post:
    """The ingress is known, and about to be looked at."""
    post.link.refresh()
    post.resolved(*AT)
    post.tick(0)
    assert post.looks == 1
    return post


def test_files_that_change_are_taken_up_within_seconds_without_a_poll(met: Post) -> None:
    met.mark = 2
    met.tick(LOOK_S / 2)
    assert len(met.told) == 1 and met.link.wait_s(met.now) <= LOOK_S / 2
    met.tick(LOOK_S / 2)
    assert len(met.told) == 2 and met.asked == 1


def test_files_that_stay_useless_are_read_once_until_they_change(met: Post) -> None:
    met.mark, met.refuse = 2, "half a file"
    for _ in range(5):
        met.tick()
    assert met.made == 2 and met.link.problems == ("half a file",)
    met.mark, met.refuse = 3, ""
    met.tick()
    assert not met.link.problems and len(met.told) == 2


def test_a_name_that_cannot_be_resolved_stays_a_problem_while_files_are_looked_at(
    met: Post,
) -> None:
    met.link.refresh()
    met.unresolved()
    met.tick()
    assert met.link.problems == ("no such name",)


def test_an_ingress_that_is_not_trusted_is_a_problem_with_one_line_until_it_is(
    met: Post, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    met.found(UNTRUSTED)
    (problem,) = met.link.problems
    assert "not trusted" in problem and "ngrokctl trust" in problem
    met.tick(FIRST_PAUSE_S)
    assert met.looks == 2
    met.found(UNTRUSTED)
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [problem]
    met.tick(2 * FIRST_PAUSE_S)
    met.found(TRUSTED)
    assert not met.link.problems and f"the ingress {DEFAULT_INGRESS} is trusted now" in caplog.text
    met.tick(10 * LONGEST_PAUSE_S)
    assert met.looks == 3


def test_looks_at_an_ingress_that_stays_untrusted_grow_rare(met: Post) -> None:
    for _ in range(20):
        met.found(UNTRUSTED)
        met.tick(LONGEST_PAUSE_S)
    looks = met.looks
    met.found(UNTRUSTED)
    met.tick(LONGEST_PAUSE_S - LOOK_S)
    assert met.looks == looks


def test_a_refused_connection_brings_a_look_and_no_look_comes_without_one(met: Post) -> None:
    met.found(TRUSTED)
    met.met = (5, 0, 0)
    met.tick(LONGEST_PAUSE_S)
    assert met.looks == 1
    met.met = (5, 1, 0)
    met.tick()
    assert met.looks == 2
    met.found(TRUSTED)
    met.met = (5, 2, 0)
    met.tick()  # at once again would be a look for each connection
    met.tick(FIRST_PAUSE_S)
    assert met.looks == 3


def test_a_connection_that_works_again_ends_the_problem(met: Post) -> None:
    met.found(UNTRUSTED)
    met.met = (1, 1, 0)
    met.tick()
    assert met.link.problems
    met.met = (2, 1, 0)
    met.tick()
    assert not met.link.problems


def test_one_look_that_does_not_reach_the_ingress_says_nothing_new(met: Post) -> None:
    met.found(UNTRUSTED)
    problems = met.link.problems
    met.tick(FIRST_PAUSE_S)
    met.found(AWAY)
    assert met.link.problems == problems


def test_an_answer_of_before_a_change_does_not_count(met: Post) -> None:
    met.mark = 2
    met.tick()
    met.found(UNTRUSTED)
    assert not met.link.problems
    met.tick(0)
    assert met.looks == 2
    met.found(TRUSTED)
    assert not met.link.problems


def test_a_look_that_cannot_read_the_files_leaves_that_to_who_uses_them(met: Post) -> None:
    for _ in range(3):
        met.link.handle(JobDone(JobKind.LOOK, error=StateError("half a file")), met.now)
        met.tick(LONGEST_PAUSE_S)
    assert not met.link.problems


def test_a_bug_in_a_look_is_let_out(met: Post) -> None:
    with pytest.raises(ZeroDivisionError):
        met.link.handle(JobDone(JobKind.LOOK, error=ZeroDivisionError()), met.now)


# Out of reach


CANNOT = (
    f"the ingress {DEFAULT_INGRESS} cannot be reached (connection refused): see `ingressEndpoint`,"
    " and whether a firewall stands between"
)


def away(met: Post) -> None:
    """Looked at twice in vain."""
    met.found(AWAY)
    met.tick(LONGEST_PAUSE_S)
    met.found(AWAY)


def test_an_ingress_that_is_away_twice_is_a_problem_until_it_is_back_with_a_line_for_each(
    met: Post, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    met.found(AWAY)
    assert not met.link.problems
    met.tick(FIRST_PAUSE_S)
    met.found(AWAY)
    assert met.link.problems == (CANNOT,) and caplog.messages[-1] == CANNOT
    said = len(caplog.messages)
    met.tick(2 * FIRST_PAUSE_S)
    met.found(Finding(Verdict.UNREACHABLE, "timed out"))
    assert "(timed out)" in met.link.problems[0] and len(caplog.messages) == said
    met.tick(4 * FIRST_PAUSE_S)
    met.found(TRUSTED)
    assert not met.link.problems
    assert caplog.messages[said:] == [f"the ingress {DEFAULT_INGRESS} can be reached now"]


def test_a_connection_that_failed_beside_one_that_was_verified_has_it_looked_at_again(
    met: Post,
) -> None:
    met.found(AWAY)
    looks = met.looks
    met.met = (1, 0, 1)
    met.tick(FIRST_PAUSE_S)
    met.tick(FIRST_PAUSE_S)
    assert met.looks == looks + 1


def test_looks_that_reach_nobody_must_follow_one_another_to_be_a_problem(met: Post) -> None:
    for finding in (AWAY, TRUSTED, AWAY):
        met.found(finding)
        met.met = (0, 0, met.met[2] + 1)
        met.tick(FIRST_PAUSE_S)
    assert not met.link.problems


def test_looks_at_an_ingress_that_stays_away_grow_rare_whoever_meets_it(met: Post) -> None:
    for _ in range(20):
        met.found(AWAY)
        met.tick(LONGEST_PAUSE_S)
    looks = met.looks
    met.found(AWAY)
    for _ in range(int(LONGEST_PAUSE_S / LOOK_S) - 1):
        met.met = (0, 0, met.met[2] + 100)
        met.tick()
    assert met.looks == looks


def test_a_connection_that_does_not_reach_the_ingress_brings_a_look(met: Post) -> None:
    met.found(TRUSTED)
    met.met = (5, 0, 1)
    met.tick(LONGEST_PAUSE_S)
    assert met.looks == 2 and not met.link.problems
    away(met)
    assert met.link.problems == (CANNOT,)


def test_a_connection_that_fails_while_a_look_is_under_way_brings_another(met: Post) -> None:
    met.met = (0, 0, 1)
    met.tick()
    met.found(TRUSTED)
    met.tick(FIRST_PAUSE_S)
    assert met.looks == 2


def test_a_connection_that_is_made_ends_the_problem_though_older_ones_still_fail(
    met: Post,
) -> None:
    away(met)
    met.met = (1, 0, 7)
    met.tick()
    assert not met.link.problems
    met.tick(10 * LONGEST_PAUSE_S)
    assert met.looks == 2


def test_an_ingress_that_comes_back_with_a_certificate_of_others_has_that_problem(
    met: Post, caplog: pytest.LogCaptureFixture
) -> None:
    away(met)
    met.tick(2 * FIRST_PAUSE_S)
    met.found(UNTRUSTED)
    (problem,) = met.link.problems
    assert "not trusted" in problem and caplog.messages[-1] == problem
    met.tick(4 * FIRST_PAUSE_S)
    away(met)
    assert met.link.problems == (CANNOT,) and caplog.messages[-1] == CANNOT


def test_another_ingress_is_not_away_because_the_one_before_was(met: Post) -> None:
    away(met)
    met.link.configure(Config(ingress_endpoint="other.example.com:443"))
    met.link.refresh()
    met.resolved(Address("192.0.2.2", 443))
    met.tick(0)
    met.found(AWAY)
    assert not met.link.problems


def test_looks_that_this_machine_had_no_means_for_tell_nothing(met: Post) -> None:
    for _ in range(3):
        met.found(Finding(Verdict.UNKNOWN, "too many open files"))
        met.tick(LONGEST_PAUSE_S)
    assert not met.link.problems


# A CA that a person gives


def test_a_ca_is_installed_and_the_answer_says_what_the_ingress_is_worth(met: Post) -> None:
    met.found(UNTRUSTED)
    reply = met.give(PEM, SHA256)
    assert (met.state / "ca.crt").read_text() == PEM and not reply.done()
    met.mark = 2
    met.tick(0)
    assert met.looks == 2 and len(met.told) == 2
    met.found(TRUSTED)
    assert reply.result(0) == {
        "installed": True,
        "path": str(met.state / "ca.crt"),
        "kept": "",
        "ingress": "trusted",
    }


def test_the_answer_does_not_come_from_a_look_that_began_before(met: Post) -> None:
    reply = met.give(PEM, SHA256)
    met.found(UNTRUSTED)
    assert not reply.done()
    met.tick(0)
    met.found(TRUSTED)
    assert reply.result(0)["ingress"] == "trusted"


def test_before_an_ingress_is_known_the_answer_comes_at_once(post: Post) -> None:
    assert post.give(PEM, SHA256).result(0)["ingress"] == "unknown"
    assert post.give(PEM, SHA256).result(0)["installed"] is False


@pytest.mark.parametrize(
    ("pem", "sha256"), [(PEM, ngrokca.SHA256), ("no PEM", SHA256)], ids=["another", "none"]
)
def test_what_is_not_to_be_trusted_is_refused_and_changes_nothing(
    met: Post, pem: str, sha256: str
) -> None:
    error = met.give(pem, sha256).exception(0)
    assert isinstance(error, ControlError) and error.code == "refused"
    assert not (met.state / "ca.crt").exists()


def test_a_folder_that_cannot_be_written_is_told(met: Post) -> None:
    (met.state / "ca.crt").mkdir()
    assert isinstance(met.give(PEM, SHA256).exception(0), StateError)


# ngrok's CA, by itself at registration


@pytest.fixture
def ngroks(post: Post, monkeypatch: pytest.MonkeyPatch) -> Post:
    """Just registered with ngrok itself, and looking at its ingress. PEM is ngrok's CA here."""
    monkeypatch.setattr(ngrokca, "SHA256", SHA256)
    post.link.enrolled()
    post.link.refresh()
    post.resolved(*AT)
    post.tick(0)
    return post


def test_ngroks_ca_is_fetched_once_installed_and_used(
    ngroks: Post, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ngroks.found(UNTRUSTED)
    assert ngroks.fetches == 1 and ngroks.link.problems
    ngroks.fetched(PEM.encode())
    assert (ngroks.state / "ca.crt").read_text() == PEM
    ngroks.mark = 2
    ngroks.tick(0)
    ngroks.found(TRUSTED)
    assert not ngroks.link.problems and len(ngroks.told) == 2
    assert f"the CA CN=Intermediate CA, SHA-256 {SHA256}, is trusted now" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize(
    ("content", "error", "why"),
    [
        (b"", HostError("no network"), "no network"),
        (b"<html>", None, "what was fetched holds no PEM certificate"),
        (Authority().intermediate_pem().encode(), None, "which is not ngrok's CA"),
    ],
)
def test_a_fetch_that_fails_is_one_line_and_not_repeated(
    ngroks: Post,
    caplog: pytest.LogCaptureFixture,
    content: bytes,
    error: Optional[Exception],
    why: str,
) -> None:
    ngroks.found(UNTRUSTED)
    ngroks.fetched(content, error)
    told = [r.getMessage() for r in caplog.records if "was not installed" in r.getMessage()]
    assert len(told) == 1 and why in told[0] and "`ngrokctl trust`" in told[0]
    assert caplog.messages[-1] == ngroks.link.problems[0]
    for _ in range(3):
        ngroks.tick(LONGEST_PAUSE_S)
        ngroks.found(UNTRUSTED)
    assert ngroks.fetches == 1 and not (ngroks.state / "ca.crt").exists()


def test_a_daemon_that_was_registered_before_fetches_nothing(met: Post) -> None:
    met.found(UNTRUSTED)
    assert met.fetches == 0


def test_an_ingress_that_was_trusted_at_registration_is_no_reason_to_fetch_later(
    ngroks: Post,
) -> None:
    ngroks.found(TRUSTED)
    ngroks.met = (0, 1, 0)
    ngroks.tick(LONGEST_PAUSE_S)
    ngroks.found(UNTRUSTED)
    assert ngroks.looks == 2 and ngroks.fetches == 0


@pytest.mark.parametrize("verdict", [Verdict.WRONG_NAME, Verdict.WRONG_DATE, Verdict.UNREACHABLE])
def test_what_another_ca_would_not_mend_is_no_reason_to_fetch(
    ngroks: Post, verdict: Verdict
) -> None:
    ngroks.found(Finding(verdict, "so it is"))
    assert ngroks.fetches == 0


def test_an_ingress_out_of_reach_at_first_is_looked_at_again_before_that_is_over(
    ngroks: Post,
) -> None:
    ngroks.found(AWAY)
    ngroks.tick(FIRST_PAUSE_S)
    ngroks.found(UNTRUSTED)
    assert ngroks.fetches == 1


def test_a_ca_that_a_person_put_there_is_left_alone(ngroks: Post) -> None:
    (ngroks.state / "ca.crt").write_text("mine")
    ngroks.found(UNTRUSTED)
    assert ngroks.fetches == 0


@pytest.mark.parametrize(
    ("url", "ingress", "fetches"),
    [
        ("https://api.ngrok.com", "", 1),
        ("https://api.ngrok.com", "kubernetes-binding-ingress.ngrok.io:443", 1),
        ("https://api.ngrok.com", "ingress.example.com:443", 0),
        ("https://api.ngrok.com", "notngrok.io:443", 0),
        ("http://127.0.0.1:4040", "", 0),
        ("http://localhost:4040", "", 0),
        ("https://[::1]:4040", "", 0),
    ],
)
def test_only_for_an_ingress_of_ngroks_own_is_its_ca_fetched(
    ngroks: Post, url: str, ingress: str, fetches: int
) -> None:
    server = ServerSettings(client_cert=str(ngroks.state / "tls.crt"))
    api = ApiSettings(url=url)
    ngroks.link.configure(Config(api=api, ingress_endpoint=ingress, server=server))
    ngroks.found(UNTRUSTED)
    assert ngroks.fetches == fetches


def test_an_ingress_that_is_not_trusted_though_ngroks_ca_is_installed_is_not_told_to_install_it(
    ngroks: Post,
) -> None:
    ngroks.found(UNTRUSTED)
    assert "`ngrokctl trust` installs" in ngroks.link.problems[0]
    ngroks.fetched(PEM.encode())
    ngroks.mark = 2
    ngroks.tick(0)
    presented = facts.read(ngrokca._only_certificate(PEM.encode()))
    ngroks.found(Finding(Verdict.UNTRUSTED, "unable to get local issuer certificate", presented))
    (problem,) = ngroks.link.problems
    assert "`ngrokctl trust`" not in problem and "`server.ca_file`" in problem
    assert "is installed and does not help: CN=Root CA is somebody in between" in problem


# What ends a problem besides its mend


def test_the_problem_of_an_ingress_ends_with_the_ingress(met: Post) -> None:
    met.found(UNTRUSTED)
    met.link.configure(Config(ingress_endpoint="other.example.com:443"))
    met.link.refresh()
    met.resolved(Address("192.0.2.2", 443))
    assert not met.link.problems
    met.tick(0)
    met.found(AWAY)
    assert not met.link.problems


def test_a_machine_that_has_left_ngrok_has_no_ingress_to_trust_until_it_is_back(met: Post) -> None:
    met.found(UNTRUSTED)
    reply = met.give(PEM, SHA256)
    met.registered = False
    met.tick()
    assert not met.link.problems and reply.result(0)["ingress"] == "unknown"
    looks = met.looks
    met.tick(LONGEST_PAUSE_S)
    assert met.looks == looks
    met.registered = True
    met.tick()
    assert len(met.told) == 2 and met.looks == looks + 1


def test_a_machine_that_wakes_looks_again_at_what_was_wrong(met: Post) -> None:
    for _ in range(9):
        met.found(UNTRUSTED)
        met.tick(LONGEST_PAUSE_S)
    met.found(UNTRUSTED)
    looks, asked = met.looks, met.asked
    met.link.awake()
    met.tick()
    assert (met.looks, met.asked) == (looks + 1, asked + 1)


def test_a_machine_that_wakes_does_not_look_at_what_was_right(met: Post) -> None:
    met.found(TRUSTED)
    met.link.awake()
    met.tick()
    assert met.looks == 1
