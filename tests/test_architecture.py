"""Who may import whom, which modules decide without acting, and how long a module may grow."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ngrokd"
ROOMS = {"cloud", "forward", "host", "control", "service", "sandbox"}
VOCABULARY = {"ngrokd", "ngrokd.errors", "ngrokd.model", "ngrokd.config"}
ALLOWED_ACROSS = {
    ("sandbox", "ngrokd.forward.wire"),
    # `ngrokctl trust` works without a daemon, too: loaded for that command alone.
    ("control", "ngrokd.verbs.trusting"),
    ("control", "ngrokd.doctor.command"),  # as that one
    # Loaded where no daemon answers, and for `ngrokctl config`.
    ("control", "ngrokd.verbs.whereabouts"),
    ("control", "ngrokd.verbs.configuring"),
}

PURE = {
    "upkeep/backoff.py",
    "upkeep/clock.py",
    "config.py",
    "reconcile/desired.py",
    "doctor/bundle.py",
    "doctor/cloud.py",
    "doctor/daemon.py",
    "doctor/finding.py",
    "doctor/host.py",
    "doctor/mending.py",
    "doctor/proctables.py",
    "doctor/secrets.py",
    "doctor/settings.py",
    "errors.py",
    "reconcile/exposure.py",
    "verbs/configpages.py",
    "verbs/hints.py",
    "model.py",
    "reconcile/outcome.py",
    "upkeep/pace.py",
    "reconcile/plan.py",
    "reload.py",
    "upkeep/wake.py",
    "logs/redaction.py",
    "logs/repeats.py",
    "cloud/apierrors.py",
    "cloud/der.py",
    "cloud/discovery.py",
    "cloud/distrust.py",
    "cloud/endpointurl.py",
    "cloud/expiry.py",
    "cloud/facts.py",
    "cloud/ingressaddress.py",
    "cloud/ngrokca.py",
    "cloud/operators.py",
    "cloud/pages.py",
    "cloud/registration.py",
    "control/completion/bash.py",
    "control/completion/daemon.py",
    "control/completion/fish.py",
    "control/completion/grammar.py",
    "control/completion/scripts.py",
    "control/completion/zsh.py",
    "control/metrics.py",
    "control/deedpages.py",
    "control/eventpages.py",
    "control/events.py",
    "control/opened.py",
    "control/hostspage.py",
    "control/page.py",
    "control/jsontext.py",
    "control/outline.py",
    "control/protocol.py",
    "control/report.py",
    "control/text.py",
    "control/tones.py",
    "control/top/details.py",
    "control/top/frame.py",
    "control/top/samples.py",
    "control/top/view.py",
    "forward/httpanswers.py",
    "forward/httpbody.py",
    "forward/httphead.py",
    "forward/httphost.py",
    "forward/backlog.py",
    "forward/demand.py",
    "forward/lifetime.py",
    "forward/pacing.py",
    "forward/tls.py",
    "forward/tunnel.py",
    "forward/wire.py",
    "host/dns.py",
    "host/dispute.py",
    "host/hosts.py",
    "host/ipam.py",
    "host/names.py",
    "host/netif/bsd.py",
    "host/netif/ifconfig.py",
    "host/netif/inventory.py",
    "host/netif/iproute.py",
    "host/netif/kernelfilter.py",
    "host/netif/links.py",
    "host/netif/networks.py",
    "host/netif/proof.py",
    "host/netif/routemessages.py",
    "host/netif/rtnetlink.py",
    "host/netif/scene.py",
    "host/netif/shellscript.py",
    "host/ports.py",
    "host/remains.py",
    "host/resolvconf.py",
    "service/control.py",
    "service/defaults.py",
    "service/enabling.py",
    "service/installing.py",
    "service/layout.py",
    "service/marks.py",
    "service/ownership.py",
    "service/purging.py",
    "service/removing.py",
    "service/rendering.py",
    "service/steps.py",
    "service/systems.py",
}
EFFECTS = {"socket", "os", "threading", "subprocess", "time", "logging", "selectors"}
MAX_LINES = 300
MAX_FUNCTION_LINES = 60  # with its docstring and comments; 40 of code

MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported, `from a import b` as both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def parsed(module: Path) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"))


def room_of(module: Path) -> str:
    return module.parts[0] if module.parts[0] in ROOMS else ""


def imported_modules(module: Path) -> set[str]:
    """What `module` imports of ours, names inside modules left out."""
    ours = {".".join(("ngrokd", *path.with_suffix("").parts)) for path in MODULES}
    ours |= {name[: -len(".__init__")] for name in ours if name.endswith(".__init__")}
    return {name for name in imports(parsed(module)) if name in ours}


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m)], ids=str)
def test_a_room_knows_only_itself_and_the_vocabulary(module: Path) -> None:
    room = room_of(module)
    foreign = {
        name
        for name in imported_modules(module)
        if not (name == f"ngrokd.{room}" or name.startswith(f"ngrokd.{room}."))
        and name not in VOCABULARY
        and (room, name) not in ALLOWED_ACROSS
        and not (name == "ngrokd.forward" and (room, "ngrokd.forward.wire") in ALLOWED_ACROSS)
    }
    assert not foreign


@pytest.mark.parametrize("name", sorted(PURE))
def test_a_module_that_decides_does_not_act(name: str) -> None:
    assert not EFFECTS & set(imports(parsed(Path(name))))


@pytest.mark.parametrize("name", sorted(VOCABULARY - {"ngrokd"}))
def test_the_vocabulary_knows_nobody(name: str) -> None:
    path = Path(*name.split(".")[1:]).with_suffix(".py")
    assert imported_modules(path) <= VOCABULARY


def test_one_module_runs_commands() -> None:
    users = {str(m) for m in MODULES if "subprocess" in set(imports(parsed(m)))}
    assert users == {"host/command.py"}


# Who may ask which platform this is; all else asks the kernel or Python for the one thing it needs.
ASKERS = {
    "host/netif/__init__.py",  # which backend makes addresses
    "host/platforms.py",  # named constants
    "service/looking.py",  # which init system runs
}
# It only shows it to who reads a bundle of `ngrokctl doctor`.
SHOWS = {"doctor/collecting.py"}
QUESTIONS = {
    ("sys", "platform"),
    ("os", "name"),
    ("os", "uname"),
    *(("platform", name) for name in ("system", "uname", "platform", "machine", "mac_ver")),
    ("sysconfig", "get_platform"),
    # Which kernel it is by what it alone has; `selectors.DefaultSelector` takes the best by itself.
    *(("select", name) for name in ("kqueue", "kevent", "epoll", "devpoll")),
    *(("selectors", name) for name in ("KqueueSelector", "EpollSelector", "DevpollSelector")),
    *(("socket", name) for name in ("AF_SYSTEM", "PF_SYSTEM", "SYSPROTO_CONTROL")),
}
PLATFORM_WORDS = re.compile(
    r"darwin|mac ?os|(?<!SE)linux|win32|freebsd|utun|\blo0\b|kqueue|dscacheutil|mdnsresponder",
    re.IGNORECASE,
)


def questions(tree: ast.AST) -> set[tuple[str, str]]:
    """What `tree` asks of QUESTIONS: by another name, by `from sys import platform`, `getattr`."""
    asked = {(name.rpartition(".")[0], name.rpartition(".")[2]) for name in imports(tree)}
    modules = {
        alias.asname: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.asname
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            asked.add((modules.get(node.value.id, node.value.id), node.attr))
        elif isinstance(node, ast.Call) and len(node.args) > 1:  # getattr, hasattr
            owner, name = node.args[:2]
            if isinstance(owner, ast.Name) and isinstance(name, ast.Constant):
                asked.add((modules.get(owner.id, owner.id), str(name.value)))
    return asked & QUESTIONS


def test_the_platform_is_asked_in_few_places() -> None:
    askers = {str(m) for m in MODULES if questions(parsed(m))}
    assert askers == ASKERS | SHOWS


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("import sys\nif sys.platform == 'x': pass", {("sys", "platform")}),
        ("from sys import platform", {("sys", "platform")}),
        ("import os\nos.uname().sysname", {("os", "uname")}),
        ("from platform import system as which", {("platform", "system")}),
        ("import platform\nplatform.python_version()", set()),
        ("import os\nos.name", {("os", "name")}),
        ("import sys as system\nsystem.platform", {("sys", "platform")}),
        ("import sys\ngetattr(sys, 'platform')", {("sys", "platform")}),
        ("import os as o\nhasattr(o, 'uname')", {("os", "uname")}),
        ("import select\nhasattr(select, 'kqueue')", {("select", "kqueue")}),
        ("import select as s\ns.kqueue()", {("select", "kqueue")}),
        ("from selectors import KqueueSelector", {("selectors", "KqueueSelector")}),
        ("import selectors\nselectors.DefaultSelector()", set()),
        ("import socket\nhasattr(socket, 'SO_PEERCRED')", set()),
        ("self.platform = 1", set()),
    ],
)
def test_every_way_of_asking_for_the_platform_is_seen(
    text: str, asked: set[tuple[str, str]]
) -> None:
    assert questions(ast.parse(text)) == asked


def test_no_other_module_has_a_platform_in_its_code() -> None:
    """In names and texts; comments and docstrings may say why something is as it is."""
    found = {
        str(m): words
        for m in MODULES
        if not str(m).startswith(("host/netif/", "service/")) and str(m) not in ASKERS
        if (words := sorted(platform_words(parsed(m))))
    }
    assert found == {"host/privileges.py": ["_NotLinux"]}  # raised where prctl is missing


def platform_words(tree: ast.Module) -> set[str]:
    """Names and texts of the code that name a platform."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, kinds) and node.body and isinstance(node.body[0], ast.Expr)
    }
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
            if id(node) not in docstrings:
                texts.append(str(node.value))
        elif isinstance(node, (ast.Name, ast.Attribute, ast.arg, ast.keyword, ast.alias)):
            words = (getattr(node, name, None) for name in ("id", "attr", "arg", "name", "asname"))
            texts += filter(None, words)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            texts.append(node.name)
    return {text for text in texts if PLATFORM_WORDS.search(text)}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_says_its_job_and_stays_short(module: Path) -> None:
    text = (PACKAGE / module).read_text(encoding="utf-8")
    assert ast.get_docstring(parsed(module)), "the first line says the module's one job"
    assert text.count("\n") <= MAX_LINES


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_functions_stay_short_and_public_things_say_what_they_do(module: Path) -> None:
    for node in ast.walk(parsed(module)):
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            continue
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"
    for node in parsed(module).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_run_time_packages_are_the_four_that_were_chosen() -> None:
    setup = ast.parse((ROOT / "setup.py").read_text())
    call = next(
        node
        for node in ast.walk(setup)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    )
    required = next(k.value for k in call.keywords if k.arg == "install_requires")
    names = {item.split(">")[0] for item in ast.literal_eval(required)}
    assert names == {"pyyaml", "cryptography", "python-daemon", "lockfile"}


def test_cryptography_is_not_loaded_to_start() -> None:
    """It costs 10 MB: only where a key or a request is made, and in the stand-in cloud."""
    for module in MODULES:
        if room_of(module) == "sandbox":
            continue
        at_top = [n for n in parsed(module).body if isinstance(n, (ast.Import, ast.ImportFrom))]
        for node in at_top:
            assert not any(name.startswith("cryptography") for name in imports(node)), module
