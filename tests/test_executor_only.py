"""On a node that has the executor's package alone, a trainer's verb says so in a sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("verb", "missing"),
    [
        (["train", "x"], "outliers.train"),
        (["train", "x"], "torch"),
        (["work"], "outliers.train"),
        (["work"], "rq"),
        (["jobs", "list"], "rq"),
    ],
)
def test_trainers_verb_without_trainer_is_a_sentence(verb: list[str], missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from outliers.__main__ import main; sys.exit(main({verb!r}))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.returncode == 1
    assert told.stderr.strip().endswith("only trainers have what this needs: install rb-aioutliers-trainer")


def test_other_missing_modules_are_not_explained_away() -> None:
    code = "import sys; sys.modules['numpy'] = None; from outliers.__main__ import main; main(['simulate'])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ModuleNotFoundError" in told.stderr
