"""The command line `rb-aioutliers <verb>`; it must not know what a verb does, and imports a verb only to run it."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from typing import NamedTuple

from outliers import __version__, log
from outliers.errors import ConfigError, InvalidRequest, OutliersError


class Verb(NamedTuple):
    module: str  # has add_arguments(parser) and run(args, config) -> int
    role: str  # what of the configuration it uses
    help: str


VERBS = {
    "serve": Verb("outliers.cli.serve", "executor", "answer POST /calculate (the executor)"),
    "detect": Verb("outliers.cli.detect", "executor", "judge one query or data file, no server"),
    "backtest": Verb("outliers.cli.backtest", "executor", "replay a past interval as it would have been seen live"),
    "train": Verb("outliers.cli.train", "trainer", "train models here and now"),
    "schedule": Verb("outliers.cli.schedule", "trainer", "enqueue training jobs on the configured cron line"),
    "work": Verb("outliers.cli.work", "trainer", "take training jobs from Redis and run them"),
    "jobs": Verb("outliers.cli.jobs", "trainer", "list, show, retry or cancel training jobs"),
    "models": Verb("outliers.cli.models", "executor", "list, show, roll back, pin or delete models"),
    "register": Verb("outliers.cli.register", "executor", "register this node in Consul"),
    "deregister": Verb("outliers.cli.deregister", "executor", "take this node out of Consul"),
    "check": Verb("outliers.cli.check", "any", "validate the configuration and try each dependency"),
    "simulate": Verb("outliers.cli.simulate", "any", "run the simulated Druid broker"),
    "demo": Verb("outliers.cli.demo", "any", "the whole system on this machine, nothing installed"),
}

SERVICES = ("serve", "schedule", "work")  # these log what they do to [Logger] log_file; the others only warn, on stderr

# What the deployed units put into ENVIRONMENT when they name no verb.
ENVIRONMENTS = {
    "production": ["serve"],
    "development": ["serve", "--section", "testing"],
    "train": ["schedule"],
    "test": ["serve", "--section", "testing", "--simulator"],
}


# What an executor's package leaves out, beside outliers.train.
TRAINERS_ONLY = frozenset({"export", "torch", "onnx", "onnxscript", "rq", "redis", "croniter", "tqdm", "matplotlib"})


def common_options() -> argparse.ArgumentParser:
    """Options that every verb takes, before or after the verb."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="the INI file to read")
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
    return parser


def front_parser() -> argparse.ArgumentParser:
    verbs = "\n".join(f"  {name:<11} {verb.help}" for name, verb in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="rb-aioutliers",
        description="Anomaly detection on Apache Druid time series.",
        epilog=f"verbs:\n{verbs}\n\n`rb-aioutliers VERB --help` says what a verb reads and writes.\n"
        f"Without a verb, $ENVIRONMENT picks one: {', '.join(ENVIRONMENTS)}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common_options()],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("verb", nargs="?", choices=VERBS, metavar="VERB")
    return parser


def verb_parser(name: str) -> argparse.ArgumentParser:
    module = importlib.import_module(VERBS[name].module)
    parser = argparse.ArgumentParser(
        prog=f"rb-aioutliers {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common_options()],
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)
    return parser


def split_at_verb(argv: list[str]) -> tuple[list[str], list[str]]:
    """The options before the verb and all from the verb on; --config takes a value."""
    position = 0
    while position < len(argv) and argv[position].startswith("-"):
        position += 2 if argv[position] == "--config" else 1
    return argv[:position], argv[position:]


def run(argv: list[str]) -> int:
    before, rest = split_at_verb(argv)
    front = front_parser()
    options = front.parse_args(before + rest[:1])
    if options.verb is None:
        environment = os.environ.get("ENVIRONMENT", "")
        if environment not in ENVIRONMENTS:
            front.print_help(sys.stderr)
            return 2
        rest = ENVIRONMENTS[environment]
        options.verb = rest[0]
    args = verb_parser(options.verb).parse_args(rest[1:])
    args.config = getattr(args, "config", getattr(options, "config", None))
    args.debug = getattr(args, "debug", getattr(options, "debug", False))
    from outliers.config import load_config

    config = load_config(args.config, os.environ, role=VERBS[options.verb].role)
    service = options.verb in SERVICES
    log.set_up(config.log.file if service else "", secrets=config.secrets(), debug=args.debug)
    if not service and not args.debug:
        logging.getLogger().setLevel(logging.WARNING)
    if options.verb != "check":  # which prints them itself
        for warning in config.warnings:
            logging.getLogger(__name__).warning("%s", warning)
    return int(args.run(args, config))


def main(argv: list[str] | None = None) -> int:
    """Run one verb; 0 fine, 1 failed, 2 wrong usage or configuration. Errors are one line on stderr."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        return run(argv)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        room, _, part = (error.name or "").partition(".")
        if room not in TRAINERS_ONLY and (room, part.partition(".")[0]) != ("outliers", "train"):
            raise
        print("rb-aioutliers: only trainers have what this needs: install rb-aioutliers-trainer", file=sys.stderr)
        return 1
    except OutliersError as error:
        if "--debug" in argv:
            raise
        print(f"rb-aioutliers: {error}", file=sys.stderr)
        return 2 if isinstance(error, (ConfigError, InvalidRequest)) else 1


if __name__ == "__main__":
    sys.exit(main())
