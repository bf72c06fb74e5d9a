"""Register this node in Consul, with an HTTP check on /ready.

Reads: the configuration. Writes: the local Consul agent.
"""

from __future__ import annotations

import argparse

from outliers.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # no options: [Consul] says it all


def run(args: argparse.Namespace, config: Config) -> int:
    from outliers.web.consul import ConsulAgent

    agent = ConsulAgent(config)
    agent.register()
    print(f"registered {agent.service_id}")
    return 0
