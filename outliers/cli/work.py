"""Take training jobs from Redis and run them until told to stop; a job that runs may end first.

Reads: jobs from Redis, traffic from Druid, the name's last model from the store.
Writes: new model versions into the store, outcomes and progress into Redis, backups where configured.
"""

from __future__ import annotations

import argparse

from outliers.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from outliers.train import worker

    worker.add_arguments(parser)


def run(args: argparse.Namespace, config: Config) -> int:
    from outliers.train import worker

    return worker.run_work(config, burst=args.burst)
