"""List, show, retry or cancel training jobs.

Reads: Redis. Writes: Redis, for retry and cancel.
"""

from __future__ import annotations

import argparse

from outliers.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from outliers.train import jobs

    jobs.add_arguments(parser)


def run(args: argparse.Namespace, config: Config) -> int:
    from outliers.train import jobs

    return jobs.run_jobs(args, config)
