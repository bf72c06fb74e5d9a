"""Answer POST /calculate: the executor, one supervisor and its workers on one listening socket.

Reads: the store's latest models, through a mirror in a local directory; Druid, for each query.
Writes: the mirror, the log file where one is configured; registers in Consul where that is enabled.
"""

from __future__ import annotations

import argparse
import dataclasses

from outliers.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--section",
        choices=("production", "testing"),
        default="production",
        help="whether [OutliersServerProduction] or [OutliersServerTesting] says where to listen",
    )
    parser.add_argument("--simulator", action="store_true", help="ask a simulated Druid broker instead of a real one")


def run(args: argparse.Namespace, config: Config) -> int:
    from outliers.web.supervisor import serve

    if args.section == "testing":
        config = config.for_development()
    if not args.simulator:
        return serve(config)
    from outliers.druid.simulator import Simulator

    simulator = Simulator()
    endpoint = simulator.start()
    try:
        return serve(dataclasses.replace(config, druid=dataclasses.replace(config.druid, endpoint=endpoint)))
    finally:
        simulator.stop()
