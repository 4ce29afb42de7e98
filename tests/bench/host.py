"""The host side with thousands of endpoints: start, poll, one more, memory, stop.

    make bench BENCH="--only host"
    .venv/bin/python -m tests.bench.host [--sizes 2000,4000,8000] [--rounds N] [--python PYTHON]
        [--json FILE] [--profile FOLDER] [--nice N] [--subnet NET]

As root, in a network namespace with a private /etc. docs/benchmarks.md says what is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

from ngrokd.control import client
from tests.bench import hostfigures
from tests.bench.counters import at_rest, cpu_seconds
from tests.bench.launcher import choose_python, write_launcher
from tests.bench.surroundings import described, niceness, profiled
from tests.integration.programs import Program
from tests.integration.site import Site, clean_environment
from tests.namespace import Namespace, why_not

SIZES, ROUNDS = (2000, 4000, 8000), 3
POLLS, EXTRAS = 5, 3
TRIED = 20  # names that are connected to once all are published
PATIENCE_S = 60.0
LOOK_S = 0.001  # how often it is tried whether something has come
NEVER_S = 3600  # between two polls that nobody asked for
URL = "tcp://e{}.ns{}.example:{}"
_OPENED_TO_WRITE = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|rename|unlink|truncate")
_NO_FILE = ("/dev/null", "/proc/")

Numbers = dict[str, float]


def url(number: int) -> str:
    """Of that endpoint."""
    return URL.format(number, number % 7, 7000 + number % 50)


class HostBench:
    """One site with its cloud, and one daemon after the other. Owner: the benchmark."""

    def __init__(self, folder: Path, namespace: Namespace, python: str, subnet: str) -> None:
        self._python = python
        self._launcher = write_launcher(folder, python)
        self.site = Site(folder, namespace)
        self.cloud = self.site.start_cloud()
        self.site.write_config(
            {
                "server": {"log_file": str(folder / "ngrokd.log")},
                "bound_endpoints": {"poll_interval": NEVER_S},
                "net": {"subnet": subnet},
            }
        )

    def list_endpoints(self, count: int) -> None:
        """The cloud has exactly so many."""
        self.cloud.replace(*({"url": url(number)} for number in range(count)))
        self.cloud.ask("DELETE", "/requests")

    def forget(self, what: str = "") -> None:
        """What the last run left: all of it, or one file."""
        if what:
            (self.site.state / what).unlink()
        else:
            shutil.rmtree(self.site.state, ignore_errors=True)

    @contextlib.contextmanager
    def daemon(self, size: int, name: str, found: Numbers) -> Iterator[Program]:
        """With all names published; `found` gets what start and stop took."""
        config = self.site.config
        argv = [self._python, "-I", self._launcher, "--foreground", "--config", config]
        cloud_before, began = cpu_seconds(self.cloud.pid), time.time()
        daemon = Program(self.site.namespace, argv, clean_environment())
        with daemon:
            done = until(lambda: self._published(size), f"{size} names; see {self.site.folder}")
            found[f"{name}_s"] = done - began
            found[f"{name}_cpu_s"] = cpu_seconds(daemon.pid)
            found[f"{name}_cloud_s"] = cpu_seconds(self.cloud.pid) - cloud_before
            self._try_some(size)
            yield daemon
            began = time.time()
            if daemon.stop():
                raise SystemExit(f"the daemon failed: {daemon.output()}")
            found["stop_s"] = time.time() - began

    def answered_at(self) -> float:
        """When the cloud gave its last answer about endpoints, Unix seconds."""
        return max(
            float(each["at"])
            for each in self.cloud.requests()
            if each["path"].endswith("/bound_endpoints")
        )

    def refresh(self) -> None:
        """Polls, and applies what came."""
        client.request(str(self.site.socket_path), "refresh", timeout_s=PATIENCE_S)

    def one_more(self, size: int) -> float:
        """ms from the answer to the name in the hosts file."""
        extra = url(10**6 + random.randrange(10**6))
        self.cloud.add(extra)
        asking = threading.Thread(target=self.refresh)
        asking.start()
        done = until(lambda: self._published(size + 1), "one name more")
        asking.join()
        took = done - self.answered_at()
        self.cloud.remove(extra)
        self.refresh()
        return took * 1000

    def _published(self, count: int) -> bool:
        """So many names are in our section. By its size first: a look must cost nothing."""
        if self.site.namespace.hosts.stat().st_size < count * 10:
            return False
        section = self.site.namespace.hosts.read_bytes().partition(b"# BEGIN ngrokd")[2]
        return section.count(b"\t") >= count

    def _try_some(self, size: int) -> None:
        for number in random.sample(range(size), min(TRIED, size)):
            host, _, port = url(number).partition("://")[2].partition(":")
            self.site.network.connect(host, int(port)).close()


def until(holds: Callable[[], bool], what: str) -> float:
    """When it held first, Unix seconds."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if holds():
            return time.time()
        time.sleep(LOOK_S)
    raise SystemExit(f"waited in vain: {what}")


def thread_seconds(pid: int) -> dict[int, float]:
    """CPU time of each thread, to the nanosecond."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it ended meanwhile
            found[int(task.name)] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


def poll(bench: HostBench, pid: int) -> Numbers:
    """CPU of one poll that changes nothing."""
    cloud, whole, threads = cpu_seconds(bench.cloud.pid), cpu_seconds(pid), thread_seconds(pid)
    bench.refresh()
    spent = {
        tid: seconds - threads.get(tid, 0.0) for tid, seconds in thread_seconds(pid).items()
    }
    main = spent.pop(pid)
    whole = cpu_seconds(pid) - whole
    return {
        "poll_cpu_ms": whole * 1000,
        "poll_main_ms": main * 1000,
        "poll_pool_ms": sum(spent.values()) * 1000,
        # In steps of 10 ms: the kernel counts ended children no finer.
        "poll_children_ms": max(0.0, whole - main - sum(spent.values())) * 1000,
        "poll_cloud_ms": (cpu_seconds(bench.cloud.pid) - cloud) * 1000,
    }


def traced(bench: HostBench, pid: int) -> Numbers:
    """Files that one unchanged poll opens to write, and programs that it starts."""
    out = bench.site.folder / "strace"
    argv = ["strace", "-f", "-qq", "-e", "trace=file,process", "-o", str(out), "-p", str(pid)]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as tracer:
        until(lambda: "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text(), "strace")
        bench.refresh()
        tracer.send_signal(signal.SIGINT)
    lines = out.read_text().splitlines()
    ours = [line for line in lines if not any(f'"{path}' in line for path in _NO_FILE)]
    return {
        "poll_writes": sum(_OPENED_TO_WRITE.search(line) is not None for line in ours),
        "poll_programs": sum("execve(" in line for line in lines),
    }


def measure(bench: HostBench, size: int, watch: Callable[..., Any]) -> Numbers:
    """One round."""
    found: Numbers = {}
    bench.list_endpoints(size)
    bench.forget()
    began = time.time()
    with bench.daemon(size, "new", found):
        found["new_after_s"] = began + found["new_s"] - bench.answered_at()
    bench.forget("endpoints.json")
    with bench.daemon(size, "known", found):
        pass
    with bench.daemon(size, "again", found) as daemon:
        bench.refresh()
        found["rss_mb"] = at_rest(daemon.pid).rss / 1024
        with watch(daemon.pid):
            polls = [poll(bench, daemon.pid) for _ in range(POLLS)]
            extras = [bench.one_more(size) for _ in range(EXTRAS)]
        found["one_more_ms"] = sorted(extras)[EXTRAS // 2]
        for number in polls[0]:
            values = sorted(each[number] for each in polls)
            found[number] = values[POLLS // 2]
        found["poll_children_ms"] = sum(each["poll_children_ms"] for each in polls) / POLLS
        found.update(traced(bench, daemon.pid))
    return found


def run(args: argparse.Namespace) -> dict[int, list[Numbers]]:
    """What each round found, by number of endpoints; the sizes take turns."""
    sizes = [int(each) for each in args.sizes.split(",")]
    found: dict[int, list[Numbers]] = {size: [] for size in sizes}
    for round_number in range(args.rounds):
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ngrokd-host-")))
            namespace = stack.enter_context(Namespace(folder))
            bench = HostBench(folder, namespace, choose_python(args), args.subnet)
            stack.callback(bench.site.close)
            for size in sizes:
                print(f"host: {size:,}, round {round_number + 1}", file=sys.stderr, flush=True)

                def watch(pid: int, size: int = size) -> contextlib.AbstractContextManager[None]:
                    if args.profile is None:
                        return contextlib.nullcontext()
                    return profiled(args.profile / f"host-{size}.txt", pid)

                found[size].append(measure(bench, size, watch))
    return found


def parse(argv: Optional[list[str]] = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), metavar="N[,N]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    parser.add_argument("--subnet", default="10.107.0.0/16", help="127.107.0.0/16: no interface")
    parser.add_argument("--python", help="what runs the daemon (default: Debian's)")
    parser.add_argument("--nice", type=int, default=0, metavar="N", help="of the whole run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keeps every round's figures")
    parser.add_argument("--profile", type=Path, metavar="FOLDER", help="py-spy's, of the daemon")
    return parser.parse_args(argv)


def main() -> Optional[str]:
    """What sys.exit takes."""
    args = parse()
    if why_not():
        return why_not()
    with niceness(args.nice):
        found = run(args)
    for name, value in described(choose_python(args))[:2]:
        print(f"{name + ':':10}{value}")
    print(f"\n{hostfigures.render(found)}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))
    return None


if __name__ == "__main__":
    sys.exit(main())
