"""The page for people, in a real browser where there is one."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlencode

import pytest
import requests

from outliers.druid.simulator import Simulator
from tests.web.asking import flow_query
from tests.web.executor import Executor

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def dom(url: str, folder: Path) -> str:
    """Return the document as the browser has it once it is quiet."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}",
        "--virtual-time-budget=20000", "--dump-dom", url,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: the page is not opened in a browser")
def test_the_page_draws_an_answer_and_shows_an_error(tmp_path: Path, simulator: Simulator):
    with Executor(tmp_path, simulator.url, Detection={"stale_s": 1e9}) as executor:
        page = requests.get(f"{executor.url}/")
        assert page.headers["Content-Type"].startswith("text/html") and "default-src 'self'" in str(page.headers)
        query = flow_query("2026-05-28T10:00:00Z", "2026-05-28T11:00:00Z", sensor="branch-lyon")
        shown = dom(f"{executor.url}/#{urlencode({'query': json.dumps(query)})}", tmp_path / "a")
        assert "bytes, 60 points of PT1M" in shown and 'aria-label="series, prediction, band' in shown
        shown = dom(f"{executor.url}/#{urlencode({'query': json.dumps(query), 'metric': 'nope'})}", tmp_path / "b")
        assert "'nope' is neither in the query" in shown


def test_the_page_asks_nobody_else():
    text = (Path(__file__).parents[2] / "outliers/web/static/page.html").read_text(encoding="utf-8")
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
