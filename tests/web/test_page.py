"""The page for people, in a real browser where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from outliers.druid.simulator import Simulator
from tests.web.asking import DATA, SENSOR, flow_query
from tests.web.executor import Executor

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: the page is not opened in a browser")


def dom(url: str, folder: Path) -> str:
    """Return the document as the browser has it once it is quiet."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}",
        "--virtual-time-budget=20000", "--dump-dom", url,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout


class Front:
    """A proxy before an executor: may do as a person would in the page, or fail with a page of its own."""

    def __init__(self, executor: Executor, script: str = "", broken: bool = False) -> None:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                self.forward(requests.get)

            def do_POST(self) -> None:
                self.forward(requests.post)

            def forward(self, method: Callable[..., requests.Response]) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {k: v for k, v in self.headers.items() if k in ("Content-Type", "Authorization")}
                answer = method(executor.url + self.path, data=sent, headers=headers)
                status, kind, body = answer.status_code, answer.headers["Content-Type"], answer.content
                if broken and self.path == "/calculate":
                    status, kind, body = 502, "text/html", b"<html><h1>Bad Gateway</h1></html>"
                elif self.path == "/":
                    body = body.replace(b"</body>", f"<script>{script}</script></body>".encode())
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def with_model(folder: Path, simulator: Simulator, **sections: dict[str, Any]) -> Executor:
    executor = Executor(folder, simulator.url, **sections)
    latest = executor.store / "latest"
    latest.mkdir(parents=True)
    shutil.copy(DATA / f"{SENSOR}.onnx", latest)
    return executor


def texts(shown: str, element: str) -> list[str]:
    """The texts of all elements of one name, in their order."""
    return re.findall(rf"<{element}\b[^>]*>([^<]*)</{element}>", shown)


@needs_browser
def test_the_page_draws_an_answer_and_shows_an_error(tmp_path: Path, simulator: Simulator):
    with Executor(tmp_path, simulator.url, Detection={"stale_s": 1e9}) as executor:
        page = requests.get(f"{executor.url}/")
        assert page.headers["Content-Type"].startswith("text/html") and "default-src 'self'" in str(page.headers)
        query = flow_query("2026-05-28T10:00:00Z", "2026-05-28T11:00:00Z", sensor="branch-lyon")
        asked = f"{executor.url}/#{urlencode({'query': json.dumps(query)})}"
        shown = dom(asked, tmp_path / "a")
        assert "bytes, 60 points of PT1M" in shown and 'aria-label="series, prediction, band' in shown
        assert {"10:00", "10:30", "2026-05-28", "UTC"} <= set(texts(shown, "text"))
        shown = dom(f"{asked}&metric=nope", tmp_path / "b")
        assert "'nope' is neither in the query" in shown
        with Front(executor, broken=True) as front:
            shown = dom(asked.replace(executor.url, front.url), tmp_path / "c")
        assert 'class="error">HTTP 502 Bad Gateway: not this service answered' in shown
        shown = dom(f"{executor.url}/#query=%7Bnope", tmp_path / "d")
        assert 'class="error">The query is not JSON: ' in shown


@needs_browser
def test_the_page_tells_stretches_of_anomalies_and_marks_what_is_carried(tmp_path: Path, simulator: Simulator):
    query = flow_query("2026-05-27T18:00:00Z", "2026-05-28T02:00:00Z")
    with with_model(tmp_path, simulator, Detection={"stale_s": 1e9}) as executor:
        answer = requests.post(f"{executor.url}/calculate", json={"query": query}).json()
        shown = dom(f"{executor.url}/#{urlencode({'query': json.dumps(query)})}", tmp_path / "a")
        flagged = [row["timestamp"] for row in answer["anomalies"]]
        marks = re.findall(r'<circle class="(anomaly|carried)"', shown)[2:]  # two are in the legend
        assert len(flagged) > 20 and len(marks) == len(flagged)
        assert marks.count("carried") == sum(row["carried"] for row in answer["anomalies"]) > 0
        assert "anomaly carried by its neighbours" in shown
        cells = [texts(line, "td") for line in re.findall(r"<tr>(.*?)</tr>", shown)[1:]]
        assert 1 <= len(cells) < 6 and sum(int(row[2]) for row in cells) == len(flagged)
        assert cells[0][0] == flagged[0][:16].replace("T", " ")
        peak = max(answer["anomalies"], key=lambda row: row["score"])
        told = next(row for row in cells if row[3] == f"{peak['score']:.3g}".ljust(4, "0"))
        assert told[6] == "▲ up" and told[7].startswith(peak["metrics"][0])
        ticks = [text for text in texts(shown, "text") if re.fullmatch(r"0|\d+(\.\d)? [KMGTPE]", text)]
        assert ticks[0] == "0" and len({tick[-1] for tick in ticks[1:]}) == 1
        steps = {round(float(b.split()[0]) - float(a.split()[0]), 6) for a, b in zip(ticks, ticks[1:])}
        assert len(steps) == 1 and f"{steps.pop():e}"[:8] in ("1.000000", "2.000000", "5.000000")


@needs_browser
def test_the_page_lists_the_models_again_when_a_token_is_given(tmp_path: Path, simulator: Simulator):
    give = """
      form.elements.token.value = "sesame";
      form.elements.token.dispatchEvent(new Event("change"));
    """
    with with_model(tmp_path, simulator, Server={"token": "sesame"}) as executor:
        option = f'<option value="{SENSOR}">'
        with Front(executor) as front:
            assert option not in dom(front.url, tmp_path / "a")
        with Front(executor, give) as front:
            assert option in dom(front.url, tmp_path / "b")


def test_the_page_asks_nobody_else():
    text = (Path(__file__).parents[2] / "outliers/web/static/page.html").read_text(encoding="utf-8")
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text
