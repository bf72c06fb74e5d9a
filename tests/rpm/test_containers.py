"""Dockerfile and compose.yaml, as far as they can be checked without an engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from outliers.__main__ import VERBS
from outliers.config import load_config

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def stage(name: str) -> str:
    found = re.search(rf"(?ms)^FROM \S+ AS {name}$(.*?)(?=^FROM |\Z)", DOCKERFILE)
    assert found, name
    return found[1]


@pytest.mark.parametrize("name", ["executor", "trainer"])
def test_target_is_unprivileged_with_a_health_check(name: str) -> None:
    assert re.search(r"(?m)^USER 10001:10001$", stage(name))
    assert "HEALTHCHECK" in stage(name)
    assert stage(name).index("USER") < stage(name).index("ENTRYPOINT")


def test_everything_that_is_copied_exists() -> None:
    for sources in re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", DOCKERFILE):
        for source in sources.split():
            assert (ROOT / source).exists(), source


def test_executor_comes_last_and_so_is_what_a_plain_build_makes() -> None:
    assert re.findall(r"(?m)^FROM \S+ AS (\S+)$", DOCKERFILE)[-1] == "executor"


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if not hadolint:
        pytest.skip("hadolint is not installed")
    told = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize("name", ["druid", "executor", "scheduler", "worker"])
def test_our_services_run_a_verb(name: str) -> None:
    command = SERVICES[name].get("command", ["serve"])
    assert command[0] in VERBS
    target = SERVICES[name]["build"]["target"]
    assert stage(target)


@pytest.mark.parametrize("name", ["executor", "scheduler", "worker"])
def test_settings_of_our_services_are_read_without_a_word(name: str) -> None:
    environ = {key: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for key, value in SERVICES[name]["environment"].items()}
    config = load_config("/dev/null", environ)
    assert config.warnings == ()
    assert config.store.kind == "s3"
    named = {config.druid.endpoint, config.aws.hostname, f"//{config.redis.hostname}"}
    assert {address.split("//")[1].split(":")[0] for address in named} <= set(SERVICES)


def test_every_setting_in_the_dockerfile_is_known() -> None:
    environ = dict(re.findall(r"(?m)^ENV (OUTLIERS_\w+)=(\S+)$", DOCKERFILE))
    assert environ
    assert load_config("/dev/null", environ).warnings == ()


def test_what_a_service_waits_for_exists_and_is_checked() -> None:
    for name, service in SERVICES.items():
        for wanted, how in service.get("depends_on", {}).items():
            assert wanted in SERVICES, name
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[wanted], wanted


def test_only_the_executor_is_reachable_from_outside() -> None:
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"executor"}
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["executor"]["ports"])


def test_volumes_are_declared() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert used == set(COMPOSE["volumes"])


def test_compose_file_has_the_schema_of_the_specification() -> None:
    specification = pytest.importorskip("compose_spec", reason="compose-spec is not installed")
    assert list(specification.ComposeSpecification.model_validate(COMPOSE).services) == list(SERVICES)


def test_compose_accepts_the_file() -> None:
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker compose is not installed")
    told = subprocess.run(["docker", "compose", "config", "-q"], capture_output=True, text=True, cwd=ROOT)
    assert told.returncode == 0, told.stderr
