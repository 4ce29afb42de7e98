"""What is measured of one proxy at a time: each workload gives numbers by name."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.bench.counters import at_rest, memory_of
from tests.bench.proxies import (
    HAPROXY,
    NGROKD,
    NGROKD_OFF,
    PEERS,
    STUNNEL,
    Proxy,
    running,
    start,
    warm_up,
)
from tests.bench.stage import ROUND_TRIP_MS, Stage, Way

GIB = 1 << 30
MIB = 1 << 20
WORKERS = 8
PACE_MS = 100  # between the connections of one worker whose latency is looked at
BESIDE_PACE_MS = 5
IDLE_COUNTS = (1000, 5000)
SETTLED_S = 1.0  # after which what was just opened is idle
ALL = (NGROKD, HAPROXY, STUNNEL)

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Size:
    """How much is done in one round."""

    bulk_bytes: int = GIB // 2
    seconds: float = 1.2
    connections: int = 12
    distant_connections: int = 6


QUICK = Size(GIB // 8, 0.5, 5, 4)


@dataclass(frozen=True)
class Bench:
    """Where, along which way, and how much."""

    stage: Stage
    way: Way
    size: Size


Measure = Callable[[Bench, Proxy], Numbers]


@dataclass(frozen=True)
class Workload:
    """One kind of measurement.

    `once`: in one round, of proxies that have just been started. `native`: not with the sandbox's
    ingress too, where both are asked for, since it would tell nothing else. `most_rounds`: where
    more would only say the same again.
    """

    name: str
    measure: Measure
    proxies: tuple[str, ...] = ALL
    distant: bool = False
    once: bool = False
    native: bool = False
    most_rounds: int = 1000


def _bulk(bench: Bench, proxy: Proxy, direction: str, streams: int) -> Numbers:
    busy = bench.stage.busy(bench.way.ingress, proxy.pid)
    busy.begin()
    words = (f"--{direction}", "--workers", streams, "--bytes", bench.size.bulk_bytes)
    found = bench.stage.load("bulk", proxy.address, proxy.upgrade, *words)
    cpu, far_cpu = busy.end()
    return {
        "gbit_s": found["bytes"] * 8 / found["seconds"] / 1e9,
        "cpu_s_gib": cpu * GIB / found["bytes"],
        **_shares(cpu, far_cpu, found["seconds"]),
    }


def _new_connections(bench: Bench, proxy: Proxy) -> Numbers:
    bench.stage.resumed_share()
    busy = bench.stage.busy(bench.way.ingress, proxy.pid)
    busy.begin()
    words = ("--workers", WORKERS, "--seconds", bench.size.seconds)
    found = bench.stage.load("connect", proxy.address, proxy.upgrade, *words)
    cpu, far_cpu = busy.end()
    resumed = bench.stage.resumed_share()
    return {
        "per_s": found["count"] / found["seconds"],
        "cpu_ms": cpu * 1000 / found["count"],
        "p50_ms": found["p50_us"] / 1000,
        "p99_ms": found["p99_us"] / 1000,
        **({} if resumed is None else {"resumed": resumed}),
        **_shares(cpu, far_cpu, found["seconds"]),
    }


def _latency(bench: Bench, proxy: Proxy) -> Numbers:
    """At a person's pace, one after the other."""
    count = bench.size.distant_connections if bench.way.distant else bench.size.connections
    words = ("--count", count, "--seconds", 30, "--pause", PACE_MS)
    found = bench.stage.load("connect", proxy.address, proxy.upgrade, *words)
    p50, p99 = found["p50_us"] / 1000, found["p99_us"] / 1000
    return {"p50_ms": p50, "p99_ms": p99, "round_trips": p50 / ROUND_TRIP_MS}


def _keepalive(bench: Bench, proxy: Proxy) -> Numbers:
    busy = bench.stage.busy(bench.way.ingress, proxy.pid)
    busy.begin()
    words = ("--workers", WORKERS, "--seconds", bench.size.seconds)
    found = bench.stage.load("keepalive", proxy.address, proxy.upgrade, *words)
    cpu, far_cpu = busy.end()
    return {
        "per_s": found["count"] / found["seconds"],
        "cpu_us": cpu * 1e6 / found["count"],
        "p50_us": found["p50_us"],
        "p99_us": found["p99_us"],
        **_shares(cpu, far_cpu, found["seconds"]),
    }


def _beside(bench: Bench, proxy: Proxy, direction: str) -> Numbers:
    words = (f"--{direction}", "--seconds", bench.size.seconds, "--pause", BESIDE_PACE_MS)
    found = bench.stage.load("beside", proxy.address, proxy.upgrade, *words)
    return {
        "p50_ms": found["p50_us"] / 1000,
        "p99_ms": found["p99_us"] / 1000,
        "max_ms": found["max_us"] / 1000,
        "bulk_gbit_s": found["bytes"] * 8 / found["seconds"] / 1e9,
    }


def _memory(bench: Bench, proxy: Proxy) -> Numbers:
    """At rest after its start, and what each idle connection adds to that."""
    numbers = {"rest_rss_mb": at_rest(proxy.pid).rss / 1024}
    warm_up(bench.stage, proxy)
    before, open_by_now = at_rest(proxy.pid), 0
    with contextlib.ExitStack() as stack:
        for count in IDLE_COUNTS:
            _hold(bench, proxy, count - open_by_now, stack)
            open_by_now = count
            after = memory_of(proxy.pid)
            numbers[f"rss_kb_{count}"] = (after.rss - before.rss) / count
            numbers[f"pss_kb_{count}"] = (after.pss - before.pss) / count
    return numbers


def _hold(bench: Bench, proxy: Proxy, count: int, stack: contextlib.ExitStack) -> None:
    """So many more idle connections, until `stack` ends them."""
    words = ("--workers", WORKERS, "--count", count)
    argv = bench.stage.load_argv("hold", proxy.address, proxy.upgrade, *words)
    holder = stack.enter_context(
        bench.stage.namespace.popen(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    )
    assert holder.stdout is not None and holder.stdin is not None
    stack.callback(holder.stdin.close)
    told = holder.stdout.readline()
    if not told or json.loads(told)["held"] != count:
        raise SystemExit(f"{proxy.name} does not hold {count} connections: {told!r}")
    with contextlib.suppress(subprocess.TimeoutExpired):
        holder.wait(SETTLED_S)


def _shares(cpu: float, far_cpu: float, seconds: float) -> Numbers:
    """Of a core: a share near 1 of the ingress says that it, not the proxy, was measured."""
    return {"cores": cpu / seconds, "ingress_cores": far_cpu / seconds}


def _bulks() -> list[Workload]:
    return [
        Workload(f"{name}-{direction}", functools.partial(_bulk, direction=direction, streams=n))
        for name, n in (("one", 1), ("sixteen", 16))
        for direction in ("up", "down")
    ]


LATENCY_OF = (NGROKD, NGROKD_OFF, *PEERS)
WORKLOADS = (
    *_bulks(),
    Workload("connect", _new_connections),
    Workload("latency", _latency, LATENCY_OF),
    Workload("distant", _latency, LATENCY_OF, distant=True, native=True, most_rounds=3),
    Workload("keepalive", _keepalive),
    Workload("beside-down", functools.partial(_beside, direction="down"), native=True),
    Workload("beside-up", functools.partial(_beside, direction="up"), native=True),
    Workload("memory", _memory, once=True, native=True),
)


def run(
    stage: Stage,
    workload: Workload,
    ingress: str,
    size: Size,
    rounds: int,
    watch: Callable[[str, Proxy], contextlib.AbstractContextManager[None]],
) -> dict[str, list[Numbers]]:
    """By proxy, one entry a round. The order rotates, so that no proxy always has the same
    neighbours in time. `watch` surrounds each measurement."""
    bench = Bench(stage, Way(ingress, workload.distant), size)
    found: dict[str, list[Numbers]] = {name: [] for name in workload.proxies}
    if workload.once:
        for name in workload.proxies:
            with contextlib.ExitStack() as stack:
                proxy = start(stage, stack, bench.way, name)
                found[name].append(workload.measure(bench, proxy))
        return found
    with running(stage, bench.way, workload.proxies) as proxies:
        for number in range(min(rounds, workload.most_rounds)):
            at = number % len(proxies)
            for proxy in proxies[at:] + proxies[:at]:
                with watch(workload.name, proxy):
                    found[proxy.name].append(workload.measure(bench, proxy))
    return found
