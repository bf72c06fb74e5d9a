"""`train NAME…`: the training job here and now, with a progress bar; no queue is asked."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from outliers.config import Config
from outliers.errors import InvalidRequest, OutliersError
from outliers.train.job import PASSED, train
from outliers.train.outcome import Outcome

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="sensors, or models by name")
    parser.add_argument("--all", action="store_true", help="every name that `schedule` would look after")
    parser.add_argument("--dry-run", action="store_true", help="publish nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object a name instead of a sentence")


def run_train(args: Any, config: Config) -> int:
    """Train one name after the other.

    Returns 1 if any failed, was refused (nothing serves it) or, in a dry run, did not pass every check; 0 otherwise.
    """
    names = list(args.names)
    if args.all:
        from outliers.train.schedule import names_of

        names += names_of(config)
    if not names:
        raise InvalidRequest("name at least one sensor or model, or use --all")
    wrong = False
    for name in dict.fromkeys(names):
        outcome = train_with_bar(name, config, dry_run=args.dry_run)
        passed = outcome.reason == PASSED  # to who asked for a dry run that is no refusal
        wrong |= not passed and (args.dry_run or outcome.kind in ("failed", "refused"))
        if args.json:
            told = {**outcome.as_dict(), "kind": "passed", "text": PASSED} if passed else outcome.as_dict()
            print(json.dumps({"name": name, **told}), flush=True)
        else:
            print(f"{name}: {PASSED if passed else outcome}", flush=True)
            for note in outcome.figures.get("notes", []):
                print(f"  {note}", flush=True)
    return int(wrong)


def train_with_bar(name: str, config: Config, *, dry_run: bool = False) -> Outcome:
    """Train one name; a bar on stderr where that is a terminal. What went wrong is a `failed` outcome."""
    with tqdm(total=100, desc=name, unit="%", disable=not sys.stderr.isatty(), leave=False) as bar:

        def show(facts: Mapping[str, Any]) -> None:
            part = facts.get("part")
            if part is not None:
                bar.update(100 * part - bar.n)
            bar.set_postfix_str(str(facts.get("text") or facts.get("granularity") or facts.get("step", "")))

        try:
            return train(name, config, progress=show, dry_run=dry_run)
        except OutliersError as error:
            logger.debug("the job failed", exc_info=True)
            return Outcome("failed", reason=str(error))
        except Exception as error:
            logger.exception("the job failed")
            return Outcome("failed", reason=f"internal error ({error!r:.300})")
