from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from outliers import log


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in [h for h in root.handlers if h not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def test_line_says_time_level_request_sensor_model_and_milliseconds(tmp_path: Path) -> None:
    log.set_up(str(tmp_path / "new" / "o.log"))
    with log.about(request="r-1", sensor="Flow Sensor"), log.about(model="20260101T0Z-1"):
        logging.getLogger("outliers.web").info("answered %s", 200, extra={"ms": 12.345})
    (line,) = lines(tmp_path / "new" / "o.log")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info pid=\d+ request=r-1 sensor=\"Flow Sensor\" "
        r"model=20260101T0Z-1 ms=12\.3 logger=outliers\.web msg=\"answered 200\"",
        line,
    )


def test_time_is_utc(tmp_path: Path) -> None:
    log.set_up(str(tmp_path / "o.log"))
    record = logging.LogRecord("x", logging.INFO, "", 0, "m", (), None)
    record.created, record.msecs = 0.25, 250.0
    assert log.Formatter().format(record).startswith("1970-01-01T00:00:00.250Z level=info")


def test_about_ends_with_its_block_and_stays_in_its_thread(tmp_path: Path) -> None:
    log.set_up(str(tmp_path / "o.log"))
    logger = logging.getLogger("t")
    with log.about(job="j"):
        other = threading.Thread(target=logger.info, args=("other",))
        other.start()
        other.join()
    logger.info("after")
    assert not any("job=" in line for line in lines(tmp_path / "o.log"))


@pytest.mark.parametrize("text", ["two\nlines", 'a "quote"', "tab\tbell\x07", "back\\slash", "a=b", "ñ €", "\r\n"])
def test_record_is_always_one_line(tmp_path: Path, text: str) -> None:
    log.set_up(str(tmp_path / "o.log"))
    with log.about(sensor=text):
        logging.getLogger("t").info("%s", text)
    assert (tmp_path / "o.log").read_bytes().count(b"\n") == 1
    assert not re.search(rb"[\x00-\x09\x0b-\x1f]", (tmp_path / "o.log").read_bytes())


def test_secrets_are_blotted_out_everywhere(tmp_path: Path) -> None:
    secrets = ["a%secret/with+signs", 'qu"ote', "", "abc"]
    log.set_up(str(tmp_path / "o.log"), secrets=secrets)
    logger = logging.getLogger("t")
    with log.about(sensor='qu"ote'):
        logger.info("key %s url %s", secrets[0], "a%25secret%2Fwith%2Bsigns")
        try:
            raise ValueError(f"refused {secrets[0]}")
        except ValueError:
            logger.exception("failed for %s", secrets[1])
    text = (tmp_path / "o.log").read_text()
    assert "with+signs" not in text
    assert "with%2Bsigns" not in text
    assert "ote" not in text.replace("quote", "")
    assert text.count("***") >= 5


def test_traceback_is_on_the_same_line(tmp_path: Path) -> None:
    log.set_up(str(tmp_path / "o.log"))
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("t").exception("failed")
    (line,) = lines(tmp_path / "o.log")
    assert 'msg="failed" traceback="Traceback' in line
    assert "ValueError: why" in line


def test_file_that_logrotate_moved_is_opened_again(tmp_path: Path) -> None:
    file = tmp_path / "o.log"
    log.set_up(str(file))
    logging.getLogger("t").info("before")
    os.rename(file, tmp_path / "o.log.1")
    logging.getLogger("t").info("after")
    assert "before" in lines(tmp_path / "o.log.1")[0]
    assert "after" in lines(file)[0]


def test_unwritable_file_is_said_and_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("/proc/nowhere/o.log")
    logging.getLogger("t").info("still here")
    err = capsys.readouterr().err
    assert "level=warning" in err
    assert "/proc/nowhere/o.log cannot be written" in err
    assert "still here" in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_full_disk_sends_records_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("/dev/full")
    logging.getLogger("t").info("not lost")
    err = capsys.readouterr().err
    assert "not lost" in err
    assert "No space left" in err
    assert "Traceback" not in err


def test_set_up_again_replaces_the_last(tmp_path: Path) -> None:
    log.set_up(str(tmp_path / "one.log"))
    log.set_up(str(tmp_path / "two.log"))
    logging.getLogger("t").info("once")
    assert lines(tmp_path / "one.log") == []
    assert len(lines(tmp_path / "two.log")) == 1


def test_debug_shows_more(tmp_path: Path) -> None:
    for debug in (False, True):
        log.set_up(str(tmp_path / "o.log"), debug=debug)
        logging.getLogger("t").debug("detail")
    assert len(lines(tmp_path / "o.log")) == 1


def test_import_does_no_work(tmp_path: Path) -> None:
    code = (
        "import logging, outliers.log, outliers.config, outliers.store; "
        "print(logging.getLogger().handlers, [m for m in __import__('sys').modules if m.startswith('boto')])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[] []"
    assert list(tmp_path.iterdir()) == []
