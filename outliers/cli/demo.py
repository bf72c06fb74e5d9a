"""The whole system on this machine: simulated Druid, training, the service, one query, a picture.

Reads: nothing but what it makes.
Writes: a folder (configuration, store, log, query, answer, plot), by default var/demo.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from outliers.config import Config, load_config
from outliers.errors import OutliersError
from outliers.times import instant_text, parse_instant_ms

SENSOR = "hq-madrid"
# A Wednesday into which this seed injects three anomalies of different kinds.
DAY, SEED = "2026-11-18", 2533
QUERY: dict[str, Any] = {
    "queryType": "timeseries",
    "dataSource": "rb_flow",
    "granularity": "minute",
    "intervals": f"{DAY}T00:00:00Z/P1D",
    "filter": {"type": "selector", "dimension": "sensor_name", "value": SENSOR},
    "aggregations": [
        {"type": "longSum", "name": "bytes", "fieldName": "sum_bytes"},
        {"type": "longSum", "name": "pkts", "fieldName": "sum_pkts"},
        {"type": "longSum", "name": "flows", "fieldName": "events"},
        {"type": "hyperUnique", "name": "clients", "fieldName": "clients"},
    ],
}
DAY_S = 86400
SETTLED_S = 600  # into the next day, so that the day shown is complete
READY_S = 60.0
MOST_OTHERS = 3  # runs beside the injected ones that still count as right

CONFIG = """[OutliersServerProduction]
outliers_binding_address = 127.0.0.1
outliers_server_port = {port}
outliers_server_workers = 1

[Druid]
druid_endpoint = {endpoint}

[Store]
kind = directory
directory = {folder}/store
mirror = {folder}/mirror
refresh_s = 5

[Logger]
log_file = {folder}/serve.log

[Detection]
stale_s = 1000000000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--once", action="store_true", help="exit after the query: 0 if all that was injected was found"
    )
    parser.add_argument("--port", type=int, default=39091, help="where the service listens (default: %(default)s)")
    parser.add_argument("--folder", default="var/demo", help="where everything is written (default: %(default)s)")


def run(args: argparse.Namespace, config: Config) -> int:
    _end_like_ctrl_c()
    _must_be_free(args.port)
    folder = Path(args.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for made in ("store", "mirror"):  # by the last demo: this one begins anew
        shutil.rmtree(folder / made, ignore_errors=True)
    midnight_s = parse_instant_ms(f"{DAY}T00:00:00Z") // 1000
    _train(folder, args.port, midnight_s)
    with _druid(midnight_s + DAY_S + SETTLED_S) as (simulator, endpoint):
        labels = simulator.labels(midnight_s, midnight_s + DAY_S, SENSOR)
        own = _configure(folder, args.port, endpoint)
        with _service(folder, own):
            answer = _ask(own)
            (folder / "answer.json").write_text(json.dumps(answer, indent=1), encoding="utf-8")
            right = _report(answer, labels)
            _plot(folder, own, labels)
            print(f"\n  plot          {folder}/plot.png\n  answer        {folder}/answer.json", flush=True)
            if args.once:
                return 0 if right else 1
            _tell(folder, own)
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600)
    return 0


def _end_like_ctrl_c() -> None:
    """Let SIGTERM and SIGHUP clean up as Ctrl-C does, or the service would outlive the demo; nohup's wish stays."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def _must_be_free(port: int) -> None:
    """Raise OutliersError where something listens already: it would answer in the demo's place."""
    from outliers.web.serving import listen

    try:
        listen("127.0.0.1", port).close()
    except OSError as error:
        raise OutliersError(
            f"cannot listen on 127.0.0.1:{port} ({error.strerror}): name another port with --port"
        ) from error


@contextlib.contextmanager
def _druid(now_s: int) -> Iterator[tuple[Any, str]]:
    from outliers.druid.simulator import Simulator

    simulator = Simulator(seed=SEED, now=now_s)
    endpoint = simulator.start()
    try:
        yield simulator, endpoint
    finally:
        simulator.stop()


def _configure(folder: Path, port: int, endpoint: str) -> Config:
    path = folder / "config.ini"
    path.write_text(CONFIG.format(port=port, endpoint=endpoint, folder=folder), encoding="utf-8")
    return load_config(str(path), {})


def _train(folder: Path, port: int, now_s: int) -> None:
    from outliers.train.by_hand import train_with_bar

    print(f"Simulated Druid: sensor {SENSOR}, its time stands at {instant_text(now_s * 1000)}.", flush=True)
    with _druid(now_s) as (_, endpoint):
        config = _configure(folder, port, endpoint)
        print("Training on the weeks before …", flush=True)
        started = time.monotonic()
        outcome = train_with_bar(SENSOR, config)
    print(f"  {outcome}, in {time.monotonic() - started:.0f} s", flush=True)
    if outcome.kind != "published":
        raise OutliersError(f"the demo's training ended otherwise than it should: {outcome}")


@contextlib.contextmanager
def _service(folder: Path, config: Config) -> Iterator[None]:
    """Run the executor as a process of its own until the block ends."""
    command = [sys.executable, "-m", "outliers", "--config", str(folder / "config.ini"), "serve"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _wait_ready(process, config)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_ready(process: subprocess.Popen[str], config: Config) -> None:
    import requests

    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if process.poll() is not None:
            said = (process.stderr.read() if process.stderr else "").strip().splitlines()
            raise OutliersError(f"the service did not start: {said[-1] if said else 'it said nothing'}")
        with contextlib.suppress(requests.RequestException):
            if requests.get(_address(config) + "/ready", timeout=2).status_code == 200:
                print(f"Serving on {_address(config)}", flush=True)
                return
        time.sleep(0.1)
    raise OutliersError(f"the service was not ready after {READY_S:.0f} s; see its log")


def _address(config: Config) -> str:
    return f"http://127.0.0.1:{config.server.port}"


def _ask(config: Config) -> dict[str, Any]:
    import requests

    query = base64.b64encode(json.dumps(QUERY).encode())
    response = requests.post(_address(config) + "/calculate", data={"query": query}, timeout=60)
    answer: dict[str, Any] = response.json()
    if answer.get("status") != "success":
        raise OutliersError(f"the service refused the query: {answer.get('msg')}")
    model = answer["model"]
    took_s = response.elapsed.total_seconds()
    print(
        f"Asked for {DAY} by the minute: {len(answer['prediction'])} points in {took_s:.2f} s,"
        f" model {model['name']} {model['version']} ({model['reason'] or 'the sensor’s own'})"
    )
    for warning in answer["warnings"]:
        print(f"  {warning}")
    return answer


def _report(answer: dict[str, Any], labels: Sequence[Any]) -> bool:
    """Print what was found beside what was injected; True if all was found and little else was flagged."""
    times = [parse_instant_ms(row["timestamp"]) // 1000 for row in answer["prediction"]]
    flagged = {parse_instant_ms(row["timestamp"]) // 1000: row for row in answer["anomalies"]}
    found = 0
    print(f"\n  {'injected':<13} {'from':<6} {'to':<6} {'bytes':>7}   found")
    for label in labels:
        inside = [row for at, row in flagged.items() if label.start_s <= at < label.end_s]
        found += bool(inside)
        what = f"{len(inside)} of {(label.end_s - label.start_s) // 60} minutes"
        if inside:
            strongest = max(inside, key=lambda row: row["score"])
            what += f", {strongest['direction']}, score {strongest['score']:.1f} ({', '.join(strongest['metrics'])})"
        print(
            f"  {label.kind:<13} {_clock(label.start_s):<6} {_clock(label.end_s):<6} ×{label.factor:<6g}  "
            f"{what if inside else 'NOT FOUND'}"
        )
    others = [
        run
        for run in _runs(times, flagged)
        if not any(run[0] < each.end_s and each.start_s <= run[1] for each in labels)
    ]
    for first, last in others:
        print(f"  {'(nothing)':<13} {_clock(first):<6} {_clock(last + 60):<6} {'':>7}   flagged")
    print(f"\n  {found} of {len(labels)} injected anomalies found, {len(others)} other runs flagged", flush=True)
    return found == len(labels) and len(others) <= MOST_OTHERS


def _runs(times: Sequence[int], flagged: dict[int, Any]) -> list[tuple[int, int]]:
    """First and last time of each run of flagged rows."""
    runs: list[tuple[int, int]] = []
    before = False
    for at in times:
        if at in flagged:
            runs.append((runs.pop()[0] if before else at, at))
        before = at in flagged
    return runs


def _clock(at_s: int) -> str:
    return instant_text(at_s * 1000)[11:16]


def _plot(folder: Path, config: Config, labels: Sequence[Any]) -> None:
    from outliers.cli import detect, table
    from outliers.cli.plot import plot_answer
    from outliers.web.calculate import calculate
    from outliers.web.payload import from_fields

    with detect.opened(None, config) as context:
        answer = calculate(from_fields({"query": QUERY}), context)
    spans = [(instant_text(label.start_s * 1000), instant_text(label.end_s * 1000), label.kind) for label in labels]
    plot_answer(answer, str(folder / "plot.png"), title=f"{SENSOR}: {table.title(answer)}", labels=spans)


def _tell(folder: Path, config: Config) -> None:
    """Say how to ask the running service again: on its page, which asks at once, and from a shell."""
    query, file = json.dumps(QUERY), folder / "query.json"
    file.write_text(query, encoding="utf-8")
    print(
        f"""  page          {_address(config)}/#query={quote(query, safe="")}
  ask again     curl -s {_address(config)}/calculate --data-urlencode "query=$(base64 < {shlex.quote(str(file))})"

Everything stays up until Ctrl-C.""",
        flush=True,
    )
