"""List, show, roll back, pin, unpin or delete models.

Reads and writes: the configured store. Executors follow within `[Store] refresh_s`.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

from outliers.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from outliers.store import cli

    cli.add_arguments(parser)


def describe(data: bytes) -> Mapping[str, Any]:
    """What a model file says of itself."""
    from outliers.infer.model import Model

    return dataclasses.asdict(Model.load(data).meta)


def run(args: argparse.Namespace, config: Config) -> int:
    from outliers.store import cli

    return cli.run(args, config, describe)
