"""Enqueue training jobs for what is due, at every slot of the configured cron line, until told to stop.

Reads: Redis (what is queued, last outcomes), the store (what is served), Druid (which sensors there are).
Writes: jobs into Redis, each name and slot once, however many nodes run this.
"""

from __future__ import annotations

import argparse

from outliers.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from outliers.train import schedule

    schedule.add_arguments(parser)


def run(args: argparse.Namespace, config: Config) -> int:
    from outliers.train import schedule

    return schedule.run_schedule(config, once=args.once)
