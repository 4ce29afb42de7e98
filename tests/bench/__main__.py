"""The benchmark: ngrokd, haproxy and stunnel on the same way to the same ingress.

    make bench [BENCH="--only one-up,connect --rounds 3"]
    .venv/bin/python -m tests.bench [--ingress native|sandbox|both] [--python PYTHON]
        [--only NAME,NAME] [--rounds N] [--quick] [--nice N] [--json FILE] [--profile FOLDER]

As root, in a network namespace with a private /etc. docs/benchmarks.md says what is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Optional

from tests.bench import host, hostfigures, table, workloads
from tests.bench.launcher import choose_python
from tests.bench.proxies import NGROKD, Proxy, start
from tests.bench.stage import NATIVE_INGRESS, SANDBOX, Stage, Way
from tests.bench.surroundings import described, niceness, profiled
from tests.bench.workloads import QUICK, WORKLOADS, Numbers, Size, Workload
from tests.namespace import why_not

ROUNDS = {NATIVE_INGRESS: 5, SANDBOX: 3}
QUICK_ROUNDS = 2
HOST = "host"  # no workload of the proxies: what thousands of endpoints cost
Found = dict[str, dict[str, dict[str, list[Numbers]]]]  # by ingress, workload, proxy


def parse(argv: Optional[list[str]] = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--ingress", choices=(NATIVE_INGRESS, SANDBOX, "both"), default="both")
    parser.add_argument("--python", help="what runs daemon and sandbox (default: Debian's)")
    parser.add_argument("--only", default="", metavar="NAME[,NAME]", help=", ".join(_names()))
    parser.add_argument("--rounds", type=int, metavar="N")
    parser.add_argument("--nice", type=int, default=0, metavar="N", help="of the whole run")
    parser.add_argument("--quick", action="store_true", help="short and rough")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keeps every round's figures")
    parser.add_argument("--profile", type=Path, metavar="FOLDER", help="py-spy's, of the daemon")
    args = parser.parse_args(argv)
    unknown = set(filter(None, args.only.split(","))) - set(_names())
    if unknown:
        parser.error(f"--only: no workload {', '.join(sorted(unknown))}; there are {_names()}")
    return args


def main() -> Optional[str]:
    """What sys.exit takes."""
    args = parse()
    if why_not():
        return why_not()
    began = time.monotonic()
    kept: dict[str, object] = {}
    if _chosen_names(args) != [HOST]:
        kept.update(_compare(args))
    if not _chosen_names(args) or HOST in _chosen_names(args):
        with niceness(args.nice):
            kept[HOST] = found = host.run(_for_host(args))
        print(f"\n{hostfigures.render(found)}", flush=True)
    print(f"\n{time.monotonic() - began:.0f} s")
    if args.json:
        args.json.write_text(json.dumps(kept, indent=1))
    return None


def _for_host(args: argparse.Namespace) -> argparse.Namespace:
    words = ["--rounds", str(args.rounds)] if args.rounds else []
    quick = ["--rounds", "1", "--sizes", "2000"] if args.quick else []
    python = ["--python", args.python] if args.python else []
    profile = ["--profile", str(args.profile)] if args.profile else []
    return host.parse([*quick, *words, *python, *profile])


def _compare(args: argparse.Namespace) -> dict[str, object]:
    """With the other proxies: what ran, and what was found."""
    ingresses = (NATIVE_INGRESS, SANDBOX) if args.ingress == "both" else (args.ingress,)
    found: Found = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(niceness(args.nice))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ngrokd-bench-")))
        stage = Stage(folder, stack, choose_python(args), ingresses)
        with contextlib.ExitStack() as enrolment:  # the peers use the daemon's certificate
            start(stage, enrolment, Way(ingresses[0]), NGROKD)
        about = described(stage.python)
        print(table.environment(about), flush=True)
        for ingress in ingresses:
            found[ingress] = _measure(stage, ingress, args)
            print(f"\n{table.render(found[ingress], ingress)}", flush=True)
    return {"environment": dict(about), "found": found}


def _measure(
    stage: Stage, ingress: str, args: argparse.Namespace
) -> dict[str, dict[str, list[Numbers]]]:
    rounds = args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS[ingress])
    size = QUICK if args.quick else Size()
    found = {}
    for workload in _chosen(args, ingress):
        print(f"{ingress}: {workload.name} ...", end="", file=sys.stderr, flush=True)
        began = time.monotonic()

        def watch(name: str, proxy: Proxy) -> contextlib.AbstractContextManager[None]:
            if args.profile is None or proxy.name != NGROKD:
                return nullcontext()
            return profiled(args.profile / f"{ingress}-{name}.txt", proxy.pid)

        found[workload.name] = workloads.run(stage, workload, ingress, size, rounds, watch)
        print(f" {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return found


def _chosen(args: argparse.Namespace, ingress: str) -> list[Workload]:
    names = _chosen_names(args)
    if names:
        return [each for each in WORKLOADS if each.name in names]
    spared = args.ingress == "both" and ingress == SANDBOX
    return [each for each in WORKLOADS if not (spared and each.native)]


def _chosen_names(args: argparse.Namespace) -> list[str]:
    return list(filter(None, args.only.split(",")))


def _names() -> list[str]:
    return [*(each.name for each in WORKLOADS), HOST]


if __name__ == "__main__":
    sys.exit(main())
