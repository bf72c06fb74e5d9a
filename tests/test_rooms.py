"""Arrows between rooms go one way, and executors never import what only trainers have."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXECUTOR = ("", "cli", "druid", "infer", "store", "web")
# What a room may import of ours: rooms by name, "" is outliers/ itself.
MAY_IMPORT = {
    "": {""},
    "druid": {"", "druid"},
    "store": {"", "store"},
    "infer": {"", "infer", "store"},
    "web": {"", "druid", "store", "infer", "web"},
    "train": {"", "druid", "store", "infer", "train", "export"},
    "export": {"", "infer", "export"},
}
# What only these rooms may import of others'; every other room must not, not even inside a function.
ONLY = {
    "torch": {"train", "export"},
    "onnx": {"train", "export"},
    "onnxscript": {"train", "export"},
    "rq": {"train"},
    "redis": {"train"},
    "boto3": {"store"},
    "botocore": {"store"},
    "flask": {"web"},
    "waitress": {"web"},
    "prometheus_client": {"web", "train"},
    "onnxruntime": {"infer"},
    "pandas": set(),
    "sklearn": set(),
    "scipy": set(),
    "keras": set(),
    "tensorflow": set(),
}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of ours with its room; the command line is not a room: each verb imports what it runs."""
    for path in sorted([*(ROOT / "outliers").rglob("*.py"), *(ROOT / "export").rglob("*.py")]):
        parts = path.relative_to(ROOT).parts
        room = "export" if parts[0] == "export" else parts[1] if len(parts) > 2 else ""
        if room != "cli" and path.name not in ("__main__.py", "check.py"):
            yield room, path


def imported(path: Path) -> Iterator[str]:
    """Full names of all that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = list(path.relative_to(ROOT).parts[: -node.level])
            yield from (".".join([*package, node.module or "", alias.name]) for alias in node.names)


def room_of(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] == "export":
        return "export"
    if parts[0] != "outliers":
        return None
    return parts[1] if len(parts) > 1 and (ROOT / "outliers" / parts[1]).is_dir() else ""


@pytest.mark.parametrize(("room", "path"), list(modules()), ids=lambda value: str(value).removeprefix(f"{ROOT}/"))
def test_imports_go_one_way(room: str, path: Path):
    for name in imported(path):
        ours = room_of(name)
        assert ours is None or ours in MAY_IMPORT[room], f"{room or 'outliers'} must not import {name}"
        owners = ONLY.get(name.split(".")[0])
        assert owners is None or room in owners, f"{room or 'outliers'} must not import {name}"


def test_only_the_model_module_knows_onnxruntime():
    owners = [path.name for _, path in modules() if any(n.split(".")[0] == "onnxruntime" for n in imported(path))]
    assert owners == ["model.py"]


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return {name.split(".")[0] for name in run.stdout.split()}


def test_a_worker_loads_nothing_of_the_trainers_nor_boto3():
    loaded = loaded_by("import outliers.web.worker, outliers.infer.model, outliers.druid.client")
    forbidden = {"torch", "onnx", "onnxscript", "rq", "redis", "pandas", "sklearn", "boto3", "botocore", "matplotlib"}
    assert not loaded & forbidden


def test_the_supervisor_loads_neither_flask_nor_onnxruntime_nor_numpy():
    """TRAPS 19: 450 MB a process. What answers nothing needs nothing of this."""
    loaded = loaded_by("import outliers.web.supervisor, outliers.infer.cache, outliers.store")
    assert not loaded & {"flask", "onnxruntime", "numpy", "boto3"}


def test_importing_every_executor_module_has_no_effect(tmp_path: Path):
    """TRAPS 21: importing the logger made a file, importing the web module a thread."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room, path in modules()
        if room in EXECUTOR and path.name != "__init__.py"
    ]
    code = (
        "import importlib, os, sys, threading\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "assert os.listdir('.') == [], os.listdir('.')\n"
    )
    run = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
