"""Validate the configuration of a role and try each dependency: each line right or wrong, with what to do.

Reads: configuration, environment, and a little of each dependency.
Writes: nothing on this machine; --role trainer puts one object into S3, and removes it.
"""

from __future__ import annotations

import argparse

from outliers.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from outliers import check

    check.add_arguments(parser)


def run(args: argparse.Namespace, config: Config) -> int:
    from outliers import check

    return check.run_check(args, config)
