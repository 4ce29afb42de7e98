"""`ngrokctl doctor`: every check in its order."""

from __future__ import annotations

import json
import platform
import ssl
import time
from pathlib import Path
from typing import Optional

from ngrokd import __version__
from ngrokd.config import DEFAULT_SOCKET_PATH, Config
from ngrokd.control import advice
from ngrokd.control.answers import mapping, mappings, text
from ngrokd.control.client import request
from ngrokd.control.commands import Call, Outcome
from ngrokd.doctor import (
    cloud,
    collecting,
    daemon,
    finding,
    host,
    lookcloud,
    lookhost,
    looksettings,
    mending,
    settings,
)
from ngrokd.doctor.daemon import Asked
from ngrokd.doctor.finding import Finding, Grade
from ngrokd.doctor.settings import ConfigFacts
from ngrokd.errors import NgrokdError, NotPermitted
from ngrokd.logs import targets
from ngrokd.verbs.whereabouts import config_path

ASK_S = 10.0
WRITTEN = "{} is written, without keys. It has hostnames and addresses: look before you send it."


def doctor(call: Call) -> Outcome:
    """Exit code 0 only if nothing failed."""
    named = call.options.config
    path, config, facts, asked = _subject(named, call.socket_path)
    findings = [
        *daemon.of_daemon(asked),
        settings.of_config(facts),
        *settings.of_files(looksettings.at_files(config, path, asked.socket_path)),
        *_of_cloud(config, asked),
        *_of_host(config, asked),
        settings.of_log(looksettings.at_log(config)),
        daemon.of_failures(lookhost.at_holders(asked)),
        daemon.of_versions(
            asked, __version__, platform.python_version(), ssl.OPENSSL_VERSION
        ),
    ]
    words = ["doctor", *(["--config", named] if named else [])]
    again = advice.again(words, None, call.socket_path)
    findings = mending.as_typed(findings, mending.Typed(again, call.options.socket, named or ""))
    bad = finding.how_many(findings, Grade.FAILED)
    named_bundle = call.options.bundle
    data = {**finding.as_json(findings), "bundle": named_bundle}
    page = finding.page(findings, call.width)
    if named_bundle:
        pages = {"doctor.txt": page + "\n", "doctor.json": json.dumps(data, indent=2) + "\n"}
        collecting.write(Path(named_bundle), config, asked, pages)
        page += f"\n\n{WRITTEN.format(named_bundle)}"
    return Outcome(data, page, 1 if bad else 0)


def _subject(
    named: Optional[str], socket_path: str
) -> tuple[Path, Config, ConfigFacts, Asked]:
    """The configuration that is named, else that of the daemon that answers, else the service's."""
    path = Path(named) if named else config_path()
    config, facts = looksettings.at_config(path)
    if socket_path == DEFAULT_SOCKET_PATH:
        socket_path = config.server.socket_path
    asked = ask(socket_path, targets.place_of(config.server, foreground=False))
    theirs = text(asked.status, "config")
    if not named and theirs and theirs != str(path):
        path = Path(theirs)
        config, facts = looksettings.at_config(path)
    return path, config, facts, asked


def ask(socket_path: str, log: str) -> Asked:
    """What the daemon tells of itself and of its endpoints."""
    try:
        status = mapping(request(socket_path, "status", timeout_s=ASK_S))
        endpoints = mappings(request(socket_path, "list", timeout_s=ASK_S))
    except NotPermitted as exc:
        return Asked(socket_path, why=str(exc), is_forbidden=True)
    except NgrokdError as exc:
        return Asked(socket_path, why=str(exc), log=log)
    return Asked(socket_path, status, tuple(endpoints))


def _of_cloud(config: Config, asked: Asked) -> list[Finding]:
    api = lookcloud.at_api(config)
    certificate = lookcloud.at_certificate(config)
    has_pair = certificate.validity is not None
    ingress = lookcloud.at_ingress(config, text(asked.status, "ingress_endpoint"), has_pair)
    return [
        *cloud.of_api(api),
        cloud.of_clock(api),
        cloud.of_certificate(certificate, time.time()),
        *cloud.of_ingress(ingress),
    ]


def _of_host(config: Config, asked: Asked) -> list[Finding]:
    interface = lookhost.at_interface(config, asked)
    hosts = lookhost.at_hosts(config.net)
    answers = lookhost.at_resolver(asked) if hosts.is_the_resolvers else {}
    return [
        host.of_interface(asked, interface),
        host.of_subnet(asked, interface),
        host.of_hosts(asked, hosts),
        host.of_resolver(hosts, answers),
        host.of_listeners(asked, lookhost.at_listeners()),
        host.of_limits(asked, lookhost.at_limits(asked)),
    ]
