"""`launchctl` of macOS, in the words, exit statuses and forms of the real one.

Facts: launchctl(1), `launchctl error`, captures of macOS 13 to 26. Whatever is not known here ends
with 99.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Sequence
from typing import Optional

from tests.macos.launchd import UNKNOWN, Job, Jobs, Refused

BOOTOUT_S = 0.5  # after that it says that it is under way
UNLOAD_S = 60.0
MODERN = ("bootstrap", "bootout", "kickstart", "print", "enable", "disable", "kill")
OF_OLD = ("load", "unload", "start", "stop", "list")
FAILED = {
    "bootstrap": "Bootstrap failed",
    "bootout": "Boot-out failed",
    "load": "Load failed",
    "unload": "Unload failed",
}
# The older verbs end with 0, whatever came of them, and name the newer ones.
RICHER = {"load": "bootstrap", "unload": "bootout"}
MORE = "as root for richer errors."
IN_PROGRESS = (36, "", "Boot-out failed: 36: Operation now in progress\n")

Answer = tuple[int, str, str]  # exit status, standard output and error


class Launchctl:
    """Answers commands. Owner: the one thread that serves."""

    def __init__(self, jobs: Jobs, is_old: bool = False) -> None:
        self.jobs = jobs
        self._is_old = is_old
        self._waiting: list[tuple[Job, float, socket.socket]] = []

    def ask(self, words: Sequence[str], uid: int, asking: socket.socket) -> None:
        """Answers on `asking`, now or once the job has ended."""
        verb, *rest = words or [""]
        try:
            answer = self._answer(verb, rest, uid, asking)
        except Refused as exc:
            words_of_it = FAILED.get(verb, f"Could not {verb} service")
            said = f"{words_of_it}: {exc.number}: {exc.words}\n"
            answer = (exc.number, "", said)
            if verb in RICHER and exc.number != UNKNOWN:
                answer = (0, "", f"{said}Try running `launchctl {RICHER[verb]}` {MORE}\n")
        if answer is not None:
            reply(asking, answer)

    def turn(self) -> None:
        """What goes on by itself, and answers to who waits for it."""
        self.jobs.turn()
        for each in list(self._waiting):
            job, until, asking = each
            if not job.pid or time.monotonic() >= until:
                self._waiting.remove(each)
                reply(asking, IN_PROGRESS if job.pid else (0, "", ""))

    def _answer(
        self, verb: str, rest: list[str], uid: int, asking: socket.socket
    ) -> Optional[Answer]:
        if verb not in ((*MODERN, *OF_OLD) if not self._is_old else OF_OLD):
            is_newer = self._is_old and verb in MODERN
            return 1 if is_newer else UNKNOWN, "", f"Unrecognized subcommand: {verb}\n"
        if verb in ("print", "list"):
            return self._list(rest) if verb == "list" else self._print(rest)
        if uid != 0:
            if verb == "bootstrap":
                raise Refused(5, f"Input/output error\nTry re-running the command {MORE}")
            if verb in RICHER:
                raise Refused(5, "Input/output error")
            raise Refused(1, "Operation not permitted")
        if verb in ("bootout", "unload"):
            job = self._named(verb, rest)
            # The older verb returns when it is done.
            return self._take_away(job, asking, BOOTOUT_S if verb == "bootout" else UNLOAD_S)
        self._do(verb, rest)
        return 0, "", ""

    def _do(self, verb: str, rest: list[str]) -> None:
        if verb in ("enable", "disable"):
            disabled = self.jobs.disabled
            (disabled.discard if verb == "enable" else disabled.add)(_target(rest))
        elif verb == "bootstrap" and rest[:1] == ["system"] and len(rest) == 2:
            self.jobs.load(rest[1], enable=False)
        elif verb == "load" and rest[-1:] and rest[:-1] in ([], ["-w"]):
            self.jobs.load(rest[-1], enable=rest[0] == "-w")
        elif verb in ("kickstart", "start", "stop", "kill"):
            self._signal(verb, rest)
        else:
            raise Refused(UNKNOWN, f"not known here: {verb} {rest}")

    def _signal(self, verb: str, rest: list[str]) -> None:
        """`kickstart [-k] TARGET`, `kill SIGNAL TARGET`, `start LABEL`, `stop LABEL`."""
        label = rest[-1] if verb in ("start", "stop") else _target(rest[-1:])
        job = self.jobs.by_label.get(label)
        if job is None:
            raise Refused(3 if verb in ("start", "stop") else 113, "Could not find service")
        if verb == "kill":
            os.kill(job.pid, signal.Signals[rest[0]])
        elif verb == "stop" or rest[:-1] == ["-k"]:
            self.jobs.end(job)
            job.wanted = verb != "stop" or job.keeps_alive
        else:
            job.wanted = not job.pid

    def _take_away(self, job: Job, asking: socket.socket, wait_s: float) -> Optional[Answer]:
        self.jobs.take_away(job)
        if not job.pid:
            return 0, "", ""
        self._waiting.append((job, time.monotonic() + wait_s, asking))
        return None

    def _named(self, verb: str, rest: list[str]) -> Job:
        path = rest[-1] if verb == "unload" else rest[1] if rest[0] == "system" else ""
        label = self.jobs.read(path)["Label"] if path else _target(rest)
        if label not in self.jobs.by_label:
            if verb == "unload":
                raise Refused(5, "Input/output error")
            raise Refused(3, "No such process")
        return self.jobs.by_label[label]

    def _print(self, rest: list[str]) -> Answer:
        label = _target(rest)
        job = self.jobs.by_label.get(label)
        if job is None:
            said = f'Bad request.\nCould not find service "{label}" in domain for system\n'
            return 113, "", said
        return 0, printed(job), ""

    def _list(self, rest: list[str]) -> Answer:
        if not rest:
            rows = [
                f"{job.pid or '-'}\t{job.status >> 8}\t{job.label}\n" for job in self.jobs.known()
            ]
            return 0, "PID\tStatus\tLabel\n" + "".join(rows), ""
        job = self.jobs.by_label.get(rest[0])
        if job is None:
            return 113, "", f'Could not find service "{rest[0]}" in domain for system\n'
        pid = f'\t"PID" = {job.pid};\n' if job.pid else ""
        return (
            0,
            f'{{\n\t"LimitLoadToSessionType" = "System";\n\t"Label" = "{job.label}";\n'
            f'\t"OnDemand" = {str(not job.keeps_alive).lower()};\n'
            f'\t"LastExitStatus" = {job.status};\n{pid}}};\n',
            "",
        )


def printed(job: Job) -> str:
    """As `launchctl print` does."""
    state = "running" if job.pid else "spawn scheduled" if job.wanted else "not running"
    words = "".join(f"\t\t{word}\n" for word in job.plist["ProgramArguments"])
    pid = f"\tpid = {job.pid}\n" if job.pid else ""
    marks = [key.lower() for key in ("KeepAlive", "RunAtLoad") if job.plist.get(key)]
    return (
        f"system/{job.label} = {{\n\tactive count = {int(bool(job.pid))}\n\tpath = {job.path}\n"
        f"\ttype = LaunchDaemon\n\tstate = {state}\n\n"
        f"\tprogram = {job.plist['ProgramArguments'][0]}\n\targuments = {{\n{words}\t}}\n\n"
        f"\tstderr path = {job.plist.get('StandardErrorPath', '/dev/null')}\n"
        "\tdefault environment = {\n\t\tPATH => /usr/bin:/bin:/usr/sbin:/sbin\n\t}\n\n"
        f"\tenvironment = {{\n\t\tXPC_SERVICE_NAME => {job.label}\n\t}}\n\n\tdomain = system\n"
        f"\tminimum runtime = {job.throttle_s}\n\texit timeout = {job.exit_timeout_s}\n"
        f"\truns = {job.runs}\n{pid}\timmediate reason = speculative\n\tforks = 0\n\t{_last(job)}\n"
        "\n\tresource coalition = {\n\t\tID = 1622\n\t\tstate = active\n\t\tactive count = 1\n\t}\n"
        f"\n\tproperties = {' | '.join([*marks, 'inferred program'])}\n}}\n"
    )


def _last(job: Job) -> str:
    if job.status & 0x7F:
        number = signal.Signals(job.status & 0x7F)
        return f"last terminating signal = {signal.strsignal(number)}: {number.value}"
    has_ended = job.runs > (1 if job.pid else 0)
    return f"last exit code = {job.status >> 8 if has_ended else '(never exited)'}"


def _target(words: Sequence[str]) -> str:
    domain, _, label = words[0].partition("/") if len(words) == 1 else ("", "", "")
    if domain != "system" or not label:
        raise Refused(UNKNOWN, f"not known here: {words}")
    return label


def reply(asking: socket.socket, answer: Answer) -> None:
    """Once; then it is closed."""
    with contextlib.suppress(OSError):  # a command that was not waited for
        asking.sendall(json.dumps(answer).encode())
    asking.close()
