"""`ngrokctl doctor`: every check in its order."""

from __future__ import annotations

import json
import os
import platform
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ngrokd import __version__
from ngrokd.config import DEFAULT_SOCKET_PATH, Config
from ngrokd.control import advice
from ngrokd.control.answers import text
from ngrokd.control.commands import Call, Outcome
from ngrokd.doctor import (
    cloud,
    collecting,
    daemon,
    finding,
    host,
    lookcloud,
    lookdaemon,
    lookhost,
    looksettings,
    mending,
    settings,
    surroundings,
)
from ngrokd.doctor.aside import Aside
from ngrokd.doctor.daemon import NEEDS_ROOT, Asked
from ngrokd.doctor.finding import Finding, Grade, skipped
from ngrokd.doctor.lookdaemon import Started
from ngrokd.doctor.mending import Typed
from ngrokd.doctor.settings import ConfigFacts
from ngrokd.host import leftovers
from ngrokd.verbs import lifecycle, whereabouts

CLOUD_S = 25.0  # for the API and the ingress together, with all look-ups of names
_OF_CLOSED = ("permissions", "API", "clock", "certificate", "ingress", "log")
WRITTEN = "{} is written, without keys. It has hostnames and addresses: look before you send it."


@dataclass(frozen=True)
class _Case:
    """What is examined: the daemon, and the configuration that it has or the next one would."""

    asked: Asked
    started: Started
    path: Path
    config: Config  # without the key of the environment
    facts: ConfigFacts
    environ: Mapping[str, str]
    socket_path: str
    log: str


def doctor(call: Call) -> Outcome:
    """Exit code 0 only if nothing failed."""
    named_bundle = call.options.bundle
    if named_bundle:
        collecting.refuse_existing(Path(named_bundle))  # before all that takes its time
    case = _case(call)
    findings = mending.as_typed(_findings(case), _typed(call))
    bad = finding.how_many(findings, Grade.FAILED)
    data = {**finding.as_json(findings), "bundle": named_bundle}
    page = finding.page(findings, call.width, call.colour)
    if named_bundle:
        plain = finding.page(findings, call.width)
        pages = {"doctor.txt": plain + "\n", "doctor.json": json.dumps(data, indent=2) + "\n"}
        sources = collecting.Sources(case.config, case.path, case.environ, case.asked, case.log)
        collecting.write(Path(named_bundle), sources, pages)
        page += f"\n\n{WRITTEN.format(named_bundle)}"
    return Outcome(data, page, 1 if bad else 0)


def _typed(call: Call) -> Typed:
    """How commands have to be typed to reach the daemon that this one has reached."""
    config = call.options.config or ""
    words = ["doctor", *(["--config", config] if config else [])]
    return Typed(advice.again(words, None, call.socket_path), call.options.socket, config)


def _case(call: Call) -> _Case:
    given = call.options.config
    path = lifecycle.absolute(given) if given else whereabouts.config_path()
    environ = surroundings.environ(Started(), os.environ)
    config, facts = looksettings.at_config(path, environ)
    named = call.socket_path
    socket_path = config.server.socket_path if named == DEFAULT_SOCKET_PATH else named
    log = looksettings.log_place(config, path, in_foreground=False)
    asked = lookdaemon.ask(socket_path, config, log)
    started = lookdaemon.started(asked)
    if asked.status is not None:
        told = text(asked.status, "config")
        if not given:
            path = Path(told) if told else started.config or path
        environ = surroundings.environ(started, os.environ)
        if path.name == leftovers.SANDBOX_RECORD:
            environ = surroundings.without_settings(environ)
        config, facts = looksettings.at_config(path, environ)
        log = looksettings.log_place(config, path, started.in_foreground)
    return _Case(asked, started, path, config, facts, environ, socket_path, log)


def _findings(case: _Case) -> list[Finding]:
    """In the order in which one thing needs another."""
    asked, closed = case.asked, not case.facts.is_known
    files = looksettings.at_files(case.config, case.path, case.socket_path)
    found = [
        *daemon.of_daemon(asked),
        settings.of_config(case.facts),
        *([] if closed else settings.of_files(files)),
        *([] if closed else _of_cloud(case)),
        *_of_host(case),
        *([] if closed else [settings.of_log(looksettings.at_log(case.log))]),
        daemon.of_failures(lookhost.at_holders(asked)),
        daemon.of_versions(asked, __version__, platform.python_version(), ssl.OPENSSL_VERSION),
    ]
    if closed:
        why = f"what to look at stands in {case.path}"
        mend = "" if case.facts.is_readable else NEEDS_ROOT  # else the line above has one
        found[2:2] = [skipped(each, why, mend) for each in _OF_CLOSED]
    return found


def _of_cloud(case: _Case) -> list[Finding]:
    config = surroundings.with_key(case.config, case.environ)
    named = text(case.asked.status, "ingress_endpoint")
    certificate = lookcloud.at_certificate(config)
    has_pair = certificate.validity is not None
    until = time.monotonic() + CLOUD_S
    with surroundings.way_of(case.environ):
        asking = Aside(lambda: lookcloud.at_api(config))
        looking = Aside(lambda: lookcloud.at_ingress(config, named, has_pair))
        api = asking.found(until) or lookcloud.late_api(config, CLOUD_S)
        ingress = looking.found(until) or lookcloud.late_ingress(config, named, CLOUD_S)
    return [
        *cloud.of_api(api),
        cloud.of_clock(api),
        cloud.of_certificate(certificate, time.time()),
        *cloud.of_ingress(ingress),
    ]


def _of_host(case: _Case) -> list[Finding]:
    asked, net = case.asked, lookhost.as_told(case.config.net, case.asked)
    interface = lookhost.with_aliases(lookhost.at_interface(net), asked)
    hosts = lookhost.at_hosts(net, lookhost.marker(net, asked))
    answers = lookhost.at_resolver(asked) if hosts.is_the_resolvers else {}
    return [
        host.of_interface(asked, interface),
        host.of_subnet(asked, interface),
        host.of_hosts(asked, hosts),
        host.of_resolver(hosts, answers),
        host.of_listeners(asked, lookhost.at_listeners()),
        host.of_limits(asked, lookhost.at_limits(asked)),
    ]
