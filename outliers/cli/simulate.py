"""Run the simulated Druid broker until interrupted.

Reads: with --events, one <data source>.jsonl.gz of events per data source; else it makes traffic of its own.
Writes: nothing; answers Druid's native timeseries, topN and timeBoundary queries over HTTP.
"""

from __future__ import annotations

import argparse

from outliers.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from outliers.druid import simulator

    simulator.add_arguments(parser)


def run(args: argparse.Namespace, config: Config) -> int:
    from outliers.druid import simulator

    return int(simulator.run_simulator(args))
