"""Train models here and now, with a progress bar; the same job that a worker runs.

Reads: traffic from Druid, the name's last model from the store.
Writes: a new version of each model into the store (nothing with --dry-run), a backup where one is configured.
"""

from __future__ import annotations

import argparse

from outliers.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from outliers.train import by_hand

    by_hand.add_arguments(parser)


def run(args: argparse.Namespace, config: Config) -> int:
    from outliers.train import by_hand

    return by_hand.run_train(args, config)
