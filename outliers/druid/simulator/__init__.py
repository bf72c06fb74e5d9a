"""A Druid broker with known traffic and known anomalies, over HTTP; it must not know who asks.

`Simulator` serves generated sensors, or the events of a folder; `run_simulator` is the verb `simulate`.
"""

from __future__ import annotations

import argparse
import signal
import threading
from typing import Any, Optional

from outliers.druid.simulator.engine import Engine
from outliers.druid.simulator.events import load_tables
from outliers.druid.simulator.labels import Label
from outliers.druid.simulator.server import Broker, Faults
from outliers.druid.simulator.table import Table
from outliers.druid.simulator.traffic import Traffic
from outliers.errors import ConfigError

__all__ = ["Faults", "Label", "Simulator", "add_arguments", "run_simulator"]


class Simulator:
    """A broker on a loopback port; a context manager that starts and stops it.

    seed: what the generated traffic is drawn from. now: Unix seconds at which its time stands still, None = the
    clock's. events_dir: a folder of <data source>.jsonl.gz to serve instead of generated traffic.
    faults: what goes wrong, to be set while it runs. traffic: the generator, None with events.
    """

    def __init__(
        self,
        seed: int = 0,
        now: Optional[float] = None,
        events_dir: Optional[str] = None,
        faults: Optional[Faults] = None,
    ) -> None:
        self.faults = faults or Faults()
        self.traffic: Optional[Traffic] = None
        tables: dict[str, Table]
        if events_dir is not None:
            tables = dict(load_tables(events_dir))
        else:
            self.traffic = Traffic(seed, now)
            tables = self.traffic.tables()
        self.engine = Engine(tables)
        self._tables = tables
        self._broker: Optional[Broker] = None
        self._thread: Optional[threading.Thread] = None

    def start(self, port: int = 0, host: str = "127.0.0.1") -> str:
        """Serve in the background; the endpoint's address, as `[Druid] druid_endpoint` wants it."""
        self._broker = Broker((host, port), self.engine, self._tables, self.faults)
        self._thread = threading.Thread(target=self._broker.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self.url

    @property
    def url(self) -> str:
        if self._broker is None:
            raise RuntimeError("the simulator was not started")
        host, port = self._broker.server_address[:2]
        return f"http://{host!s}:{port}/druid/v2/"

    @property
    def asked(self) -> list[Any]:
        """Queries that came, oldest first."""
        return [] if self._broker is None else list(self._broker.asked)

    def stop(self) -> None:
        """Close the port and every connection; `start` may follow."""
        if self._broker is not None and self._thread is not None:
            self._broker.shutdown()
            self._broker.hang_up()
            self._broker.server_close()
            self._thread.join()
        self._broker = self._thread = None

    def labels(
        self, start_s: Optional[float] = None, end_s: Optional[float] = None, sensor: Optional[str] = None
    ) -> list[Label]:
        """Injected anomalies that touch [start_s, end_s), by time; default: the last 28 days. None with events."""
        return [] if self.traffic is None else self.traffic.labels(start_s, end_s, sensor)

    def __enter__(self) -> Simulator:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb `simulate`."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8082, help="port to listen on, 0 = any free one (default: %(default)s)"
    )
    parser.add_argument("--events", metavar="DIR", help="folder of <data source>.jsonl.gz to serve; none = generated")
    parser.add_argument("--seed", type=int, default=0, help="what the generated traffic is drawn from (default: 0)")


def run_simulator(args: argparse.Namespace) -> int:
    """Serve until interrupted or told to end; ConfigError where the port or the folder cannot be used."""
    simulator = Simulator(seed=args.seed, events_dir=args.events)
    try:
        url = simulator.start(args.port, args.host)
    except OSError as error:
        raise ConfigError(f"the simulator cannot listen on port {args.port}: {error.strerror}") from error
    ended = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: ended.set())
    print(f"Simulated Druid broker on {url}", flush=True)
    ended.wait()
    simulator.stop()
    return 0
