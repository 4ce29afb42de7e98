"""What ngrokd says when something is wrong, read from its code: for test_troubleshooting.py.

A text is found where it is logged with severity warning or above, or put into an error of ours.
What is only known when it runs stands as `…` in it. Where a text is made elsewhere and only handed
on, the place that hands it on stands in `RELAYS` and the functions that make it in `TELLERS`:
whoever adds such a place completes these two.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

PACKAGE = Path(__file__).parent.parent / "ngrokd"
HOLE = "…"
LOUD = frozenset(("warning", "error", "critical", "exception"))
FORMAT = re.compile(r"%(?:\([a-z_]+\))?[-0-9.]*[a-zA-Z]")
LEVEL = re.compile(r"\blogging\.(WARNING|ERROR|CRITICAL)\b")
FIELD = re.compile(r"\{[^}]*\}")
ENOUGH = re.compile(r"[A-Za-z].*[A-Za-z].*[A-Za-z]")  # less is no text of its own
DEEPEST = 4  # names and calls that are followed for one text
# A peer's fault ends one connection and is told by its cause, which forward/faults.py words; what a
# command of `ngrokctl` says of an answer that is none is in a row by itself. A name server's is no
# news.
UNTOLD = frozenset({("forward", "ProtocolError"), ("host", "ProtocolError")})

# Where the text is not the first argument; and what is told like an error, but not of errors.py.
TEXT_AT = {"ControlError": 1, "Failure": 1}
LIKE_ERRORS = frozenset({"Failure", "Unusable", "complain"})

# (module, what is handed on), where the texts of it are found otherwise: they are those of errors,
# or of TELLERS.
RELAYS = frozenset(
    {
        ("awaited.py", "str(error)"),
        ("cloud/api.py", "fault"),
        ("cloud/identity.py", "note"),
        ("cloud/identity.py", "exc"),
        ("cloud/identity.py", "fault"),
        ("cloud/pair.py", "statefile.set_aside(self._key, 'cannot be used for a request')"),
        ("doctor/collecting.py", "f'{path}: {exc.strerror}'"),
        ("cloud/statefile.py", "f'{path} {what}: {exc.strerror or exc}; {mend}'"),
        ("commands.py", "str(exc)"),
        ("conductor.py", "note"),
        ("conductor.py", "problem"),
        ("configtext/settings.py", "[*shown, *([f'and {more} faults more'] if more > 0 else [])]"),
        ("control/client.py", "f'{socket_path}: {exc}'"),
        ("control/client.py", "f'{socket_path}: {os.strerror(exc.errno or 0)}'"),
        ("control/opened.py", "'; '.join((_why(endpoint) for endpoint in named))"),
        ("control/protocol.py", "str(answer.get('error', 'no reason given'))"),
        ("daemon.py", "exc"),
        ("forward/faults.py", "f'{said.lower()} {STAGES[state]}'"),
        ("forward/faults.py", "f'{type(fault).__name__}: {printable(str(fault))}'"),
        ("forward/switchboard.py", "line"),
        ("healthpages.py", "exc"),
        ("host/hostsfile.py", "f'{self._path}: {exc}'"),
        ("host/machine.py", "'\\n'.join(faults)"),
        ("host/machine.py", "exc"),
        ("host/machine.py", "str(exc)"),
        ("host/netif/finding.py", "refusal"),
        ("host/netif/linux.py", "self._found.conflict"),
        ("host/netif/darwin.py", "exc"),
        ("host/netif/darwin.py", "str(exc)"),
        ("host/netif/darwin.py", "taken"),
        ("host/netif/darwin.py", "left_behind(failed)"),
        ("host/netif/utun.py", "conflict"),
        ("host/netif/linux.py", "note"),
        ("host/netif/linux.py", "proof.what_was_mended(self._layout, self._held)"),
        ("memory.py", "note"),
        ("process/background.py", "exc"),
        ("reconcile/reconciler.py", "problem"),
        ("reconcile/reconciler.py", "warning"),
        ("reconcile/reconciler.py", "line"),
        ("reloader.py", "line"),
        ("reloader.py", "beyond"),
        ("reloader.py", "str(exc)"),
        ("upkeep/enrolment.py", "self._tries.problem"),
        ("upkeep/ingress.py", "problem"),
        ("upkeep/keycheck.py", "fault"),
        ("upkeep/keycheck.py", "str(error)"),
        ("upkeep/tries.py", "self.problem"),
        ("upkeep/trustwatch.py", "self.problem"),
        ("verbs/cleanup.py", "'\\n'.join(left)"),
        ("verbs/cleanup.py", "'\\n'.join(faults)"),
        ("verbs/cleanup.py", "f'ngrokd: {line}'"),
        ("verbs/configuring.py", "f'{copy.parent}: {exc.strerror}'"),
        ("verbs/configuring.py", "f'{path}: {exc.strerror}'"),
        ("verbs/configuring.py", "str(exc)"),
        ("verbs/installation.py", "f'ngrokd: {text}'"),
        ("verbs/lifecycle.py", "f'ngrokd: {exc}'"),
        ("verbs/lifecycle.py", "fault"),
        ("verbs/lifecycle.py", "line"),
        ("verbs/trusting.py", "str(exc)"),
        ("verbs/trusting.py", "f'{path}: {exc.__cause__.strerror}'"),
        ("verbs/trusting.py", "f'{path}: {exc.strerror}'"),
    }
)

# (module, function or class.method) whose every text of some words is told to a person.
TELLERS = (
    ("snapshot.py", "Board._problems"),
    ("snapshot.py", "Board._certificate_problem"),
    ("conductor.py", "Conductor._recall_endpoints"),
    ("reconcile/outcome.py", "lines"),
    ("forward/bursts.py", "Bursts.notice"),
    ("forward/bursts.py", "Bursts._due_notices"),
    ("forward/bursts.py", "_line"),
    ("configtext/advice.py", "lines"),
    ("configtext/advice.py", "_on_net"),
    ("configtext/advice.py", "_on_server"),
    ("upkeep/stepwords.py", "CLOCK"),
    ("upkeep/stepwords.py", "UNUSABLE"),
    ("upkeep/tries.py", "Tries.failed"),
    ("cloud/distrust.py", "words"),
    ("cloud/distrust.py", "_other_authority"),
    ("host/names.py", "Rules.refusal"),
    ("host/names.py", "_malformed"),
    ("reconcile/desired.py", ""),
    ("cloud/discovery.py", "discover"),
    ("cloud/discovery.py", "_one_per_target"),
    ("reconcile/serving.py", "Serving.remove_addresses"),
    ("reconcile/serving.py", "UNSERVED"),
    ("reconcile/exposure.py", "warning"),
    ("reconcile/exposure.py", "note"),
    ("reconcile/sight.py", "Sight.look"),
    ("process/limits.py", "too_many"),
    ("process/limits.py", "out_of_reach"),
    ("host/netif/finding.py", "look"),
    ("host/netif/aliases.py", "FOREIGN"),
    ("host/netif/aliases.py", "NOTHING_CAME"),
    ("host/netif/aliasrecord.py", "TAKEN"),
    ("host/netif/utunsocket.py", "refuse_conflict"),
    ("host/netif/proof.py", "what_was_mended"),
    ("host/netif/linux.py", "VirtualInterface._note"),
    ("host/privileges.py", "keep_only_needed"),
    ("host/privileges.py", "_give_up"),
    ("host/files.py", "read_json_mapping"),
    ("cloud/statefile.py", "set_aside"),
    ("cloud/pair.py", "Pair._recover"),
    ("cloud/pair.py", "Pair._examine"),
    ("cloud/pair.py", "Pair._close_to_others"),
    ("cloud/pair.py", "Pair._put_aside"),
    ("upkeep/leaving.py", "UNMARKED"),
    ("upkeep/leaving.py", "LEFT"),
    ("upkeep/leaving.py", "CUT_SHORT"),
    ("reloader.py", "Reloader.problems"),
    ("reconcile/assignments.py", "Assignments.keep"),
    ("host/netif/leftovers.py", "plan"),
    ("verbs/configpages.py", "editor"),
    ("host/netif/ifconfigtool.py", "IfconfigTool.refusal"),
)

# What TELLERS hold that is a part of another text, or no trouble.
PARTS = frozenset(
    {
        "1 more connection",
        "; a new key is made",
        "; a new one is asked for",
        "does not fit …",
        "; it is tried again",
        "; it works again",
        "endpoint … open at …",
        "whoever issued this one",
        "without a URL",
    }
)

# Calls of `logger.log` whose level is never a loud one, or that is given by who calls the function.
QUIET = frozenset({"control/dispatch.py", "upkeep/enrolment.py", "upkeep/waking.py"})

Function = Union[ast.FunctionDef, ast.ClassDef, ast.Module]


@dataclass(frozen=True)
class Message:
    """A text, and where it is made: `module:line`."""

    where: str
    text: str


class Reader:
    """Reads one module."""

    def __init__(self, path: Path, errors: frozenset[str]) -> None:
        self.name = str(path.relative_to(PACKAGE))
        self._tree = ast.parse(path.read_text(encoding="utf-8"))
        self._errors = errors
        self._functions = {
            node.name: node for node in ast.walk(self._tree) if isinstance(node, ast.FunctionDef)
        }
        self._constants = {**_imported(self._tree), **_texts_named(self._tree)}
        self.relayed: set[tuple[str, str]] = set()
        self.loud_at_will = False  # a `logger.log` whose level is not to be seen here

    def messages(self) -> Iterator[Message]:
        """Those that are made here; afterwards `relayed` has what is only handed on."""
        for function, call in _calls(self._tree, self._tree):
            for said in self._said(call):
                made = (text.removeprefix("ngrokd: ") for text in self._texts(said, function))
                texts = [text for text in made if ENOUGH.search(text)]
                if not texts:
                    self.relayed.add((self.name, ast.unparse(said)))
                yield from (Message(f"{self.name}:{call.lineno}", text) for text in texts)

    def told(self, qualified: str) -> Iterator[Message]:
        """Every text of some words in that function."""
        node = self._find(qualified)
        for text in _texts_in(node, self._constants):
            if len(text.replace(HOLE, " ").split()) >= 3 and text not in PARTS:
                yield Message(f"{self.name}:{qualified}", text)

    def _expanded(self, node: ast.JoinedStr, function: Function, depth: int) -> list[str]:
        """One that is made of other texts only."""
        found = [""]
        for part in node.values:
            inside = part.value if isinstance(part, ast.FormattedValue) else part
            texts = self._texts(inside, function, min(depth + 1, DEEPEST))
            found = [before + text for before in found for text in texts]
        return found

    def _find(self, qualified: str) -> Any:
        node: Any = self._tree
        for part in filter(None, qualified.split(".")):
            node = next((each for each in node.body if part in _names(each)), None)
            assert node is not None, f"{self.name} has no {qualified}: see TELLERS"
        return node

    def _said(self, call: ast.Call) -> list[ast.expr]:
        """The arguments of a call that are a text for a person."""
        func = call.func
        if isinstance(func, ast.Name) and func.id in self._errors:
            if (self.name.split("/")[0], func.id) in UNTOLD:
                return []
            at = TEXT_AT.get(func.id, 0)
            return call.args[at : at + 1]
        if not isinstance(func, ast.Attribute) or ast.unparse(func.value) != "logger":
            levels = [ast.unparse(each) for each in call.args[:1]]
            return call.args[1:2] if LEVEL.search("".join(levels)) else []
        words = call.args
        if func.attr == "log":
            level, *words = words
            if not LEVEL.search(ast.unparse(level)):
                self.loud_at_will = True
                return []
        elif func.attr not in LOUD:
            return []
        bare = isinstance(words[0], ast.Constant) and FORMAT.sub("", str(words[0].value))
        return words[1:2] if isinstance(bare, str) and not ENOUGH.search(bare) else words[:1]

    def _texts(self, node: ast.expr, function: Function, depth: int = 0) -> list[str]:
        """What it may be, a hole for what is not known."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return [FORMAT.sub(HOLE, node.value)]
        if isinstance(node, ast.JoinedStr):
            text = _joined(node, self._constants)
            says = ENOUGH.search(text.replace("Mend", ""))
            return [text] if says else self._expanded(node, function, depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            ends = self._texts(node.right, function, depth)
            return [a + b for a in self._texts(node.left, function, depth) for b in ends]
        if depth == DEEPEST:
            return [HOLE]
        if isinstance(node, ast.Call):
            return self._made(node, function, depth + 1)
        inner: Iterable[ast.expr] = ()
        if isinstance(node, ast.IfExp):
            inner = (node.body, node.orelse)
        elif isinstance(node, ast.BoolOp):
            inner = node.values
        elif isinstance(node, (ast.List, ast.Tuple)):
            inner = node.elts
        elif isinstance(node, ast.Name):
            inner = [*_assigned(function, node.id), *_assigned(self._tree, node.id)]
        return [text for each in inner for text in self._texts(each, function, depth + 1)] or [HOLE]

    def _made(self, call: ast.Call, function: Function, depth: int) -> list[str]:
        """What a call gives: of `format`, or of a function of this module."""
        if isinstance(call.func, ast.Attribute) and call.func.attr == "format":
            texts = self._texts(call.func.value, function, depth)
            return [FIELD.sub(HOLE, text) for text in texts]
        made_by = self._functions.get(ast.unparse(call.func).rpartition(".")[2])
        if made_by is None:
            return [HOLE]
        returns = (each for each in ast.walk(made_by) if isinstance(each, ast.Return))
        values = [each.value for each in returns if each.value]
        return [text for each in values for text in self._texts(each, made_by, depth)] or [HOLE]


def read() -> tuple[list[Message], set[tuple[str, str]], set[str]]:
    """Every message, what is handed on, and the modules that log at a level not to be seen."""
    errors = frozenset(
        node.name
        for node in ast.parse((PACKAGE / "errors.py").read_text()).body
        if isinstance(node, ast.ClassDef)
    ) | LIKE_ERRORS
    found: list[Message] = []
    relayed: set[tuple[str, str]] = set()
    at_will: set[str] = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        reader = Reader(path, errors)
        found += reader.messages()
        relayed |= reader.relayed
        if reader.loud_at_will:
            at_will.add(reader.name)
        for module, function in TELLERS:
            if module == reader.name:
                found += reader.told(function)
    return found, relayed, at_will


def _calls(node: ast.AST, within: Function) -> Iterator[tuple[Function, ast.Call]]:
    """Each with the function that it stands in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield within, child
        yield from _calls(child, child if isinstance(child, ast.FunctionDef) else within)


def _texts_named(module: ast.Module) -> dict[str, str]:
    """Its constants that are texts."""
    return {
        name: node.value.value
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for name in _names(node)
        if isinstance(node.value.value, str)
    }


def _imported(module: ast.Module) -> dict[str, str]:
    """Those that it has by name from other modules of the package."""
    found: dict[str, str] = {}
    for node in module.body:
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("ngrokd."):
            continue
        wanted = {alias.name: alias.asname or alias.name for alias in node.names}
        path = PACKAGE.parent.joinpath(*str(node.module).split(".")).with_suffix(".py")
        if path.exists() and any(name.isupper() for name in wanted):
            there = _texts_named(ast.parse(path.read_text(encoding="utf-8")))
            found.update({wanted[name]: there[name] for name in wanted if name in there})
    return found


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Assign):
        return [ast.unparse(target) for target in node.targets]
    return [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else []


def _assigned(function: Function, name: str) -> Iterator[ast.expr]:
    nodes = function.body if isinstance(function, ast.Module) else ast.walk(function)
    for node in nodes:
        targets: list[ast.expr] = []
        value: Optional[ast.expr] = None
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
            targets, value = [node.target], node.value
        if value is not None and any(isinstance(t, ast.Name) and t.id == name for t in targets):
            yield value


def _joined(node: ast.JoinedStr, constants: Mapping[str, str]) -> str:
    text = ""
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value)
        else:
            assert isinstance(part, ast.FormattedValue)
            text += constants.get(ast.unparse(part.value), HOLE)
    return text


def _texts_in(node: ast.AST, constants: Mapping[str, str]) -> Iterator[str]:
    body = getattr(node, "body", None)
    first = body[0] if isinstance(body, list) and body else None
    for child in ast.iter_child_nodes(node):
        if child is first and isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue  # the docstring
        if isinstance(child, ast.JoinedStr):
            yield _joined(child, constants)
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield FIELD.sub(HOLE, child.value)
        else:
            yield from _texts_in(child, constants)
