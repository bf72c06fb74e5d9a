"""The configuration: every setting with its default and meaning, and how it is read from INI file and environment.

It must not know what the settings are used for, and opens nothing but the file itself and files of secrets.

The dataclasses below are the one table: defaults, reading, `check`'s listing and the README's table come from it.
The INI file is the one that the Chef cookbook writes, unchanged; `%` is a plain character in it.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from .errors import ConfigError
from .ini import override, text_for, written_in
from .settings import (
    PLACEHOLDERS,
    Setting,
    choice,
    integer,
    number,
    read_cron,
    read_flag,
    read_granularities,
    read_lead_in,
    read_list,
    read_s3_address,
    read_text,
    read_url,
    setting,
    settings_of,
)

SEARCHED_FILES = ("/etc/rb-aioutliers/config.ini", "/opt/rb-aioutliers/resources/src/config.ini")
STATE_DIRECTORY = "/var/lib/rb-aioutliers"
EXECUTOR, TRAINER, BOTH = ("executor",), ("trainer",), ("executor", "trainer")

_positive_s = number(0, above=True)


@dataclass(frozen=True)
class Server:
    SECTION: ClassVar = "OutliersServerProduction"
    ROLES: ClassVar = EXECUTOR
    address: str = setting("127.0.0.1", read_text, "address to listen on", key="outliers_binding_address")
    port: int = setting(39091, integer(0, 65535), "port to listen on", key="outliers_server_port")
    workers: int = setting(1, integer(1, 256), "worker processes", key="outliers_server_workers")
    threads: int = setting(4, integer(1, 1024), "threads of each worker", key="outliers_server_threads")
    token: str = setting(
        "", read_text, "bearer token that callers must send; none = open", section="Server", secret=True
    )
    request_timeout_s: float = setting(30.0, _positive_s, "longest time that a request may take", section="Server")


@dataclass(frozen=True)
class Testing:
    __test__ = False
    SECTION: ClassVar = "OutliersServerTesting"
    ROLES: ClassVar = EXECUTOR
    address: str = setting(
        "127.0.0.1", read_text, "address to listen on with `ENVIRONMENT=development`", key="outliers_binding_address"
    )
    port: int = setting(
        39091, integer(0, 65535), "port to listen on with `ENVIRONMENT=development`", key="outliers_server_port"
    )


@dataclass(frozen=True)
class Outliers:
    SECTION: ClassVar = "Outliers"
    ROLES: ClassVar = TRAINER
    metric: str = setting("bytes", read_text, "metric an answer is about where the request names none", roles=BOTH)
    schedule_hour: str = setting("0 3 * * *", read_cron, "when to look for models that are due: cron line, UTC")
    epochs: int = setting(20, integer(1, 10000), "passes over the training data")
    batch_size: int = setting(32, integer(1, 65536), "windows in one training step")
    backup_path: str = setting("", read_text, "directory for a copy of every published model; none = no copy")
    model_names: tuple[str, ...] = setting(
        (), read_list, "further models by name, each over its `<name>_filter.json` in the store"
    )
    target_sensors: tuple[str, ...] = setting(
        (), read_list, "sensors to train, one model each; none = discover them in Druid"
    )


@dataclass(frozen=True)
class Shallow:
    SECTION: ClassVar = "ShallowOutliers"
    ROLES: ClassVar = EXECUTOR
    sensitivity: float = setting(
        0.95, number(0, 1), "detector without a model: higher flags more; 0.95 is its default line"
    )
    contamination: float = setting(0.01, number(0, 0.5), "detector without a model: share of points expected to be out")


@dataclass(frozen=True)
class Druid:
    SECTION: ClassVar = "Druid"
    ROLES: ClassVar = BOTH
    endpoint: str = setting("http://127.0.0.1:8082/druid/v2/", read_url, "address of the broker", key="druid_endpoint")
    connect_timeout_s: float = setting(2.0, _positive_s, "longest wait for a connection")
    timeout_s: float = setting(20.0, _positive_s, "longest wait for an answer")
    lead_in_timeout_s: float = setting(3.0, _positive_s, "longest wait for the lead-in, before it is given up")
    newest_s: float = setting(10.0, number(0), "how long a data source's newest event is remembered")
    settle_s: float = setting(120.0, number(0), "a bucket is complete when it ended this long before the newest event")
    history_s: float = setting(300.0, number(0), "how long closed buckets of lead-ins are kept")
    cache_s: float = setting(10.0, number(0), "how long an answer about a closed interval is kept")
    max_answer_mb: float = setting(64.0, _positive_s, "largest answer that is read")
    data_sources: tuple[str, ...] = setting((), read_list, "data sources that may be asked; none = all")
    ca_file: str = setting("", read_text, "certificate authorities for an https broker; none = the system's")
    user: str = setting("", read_text, "user name for the broker")
    password: str = setting("", read_text, "password for the broker", secret=True)


@dataclass(frozen=True)
class Detection:
    SECTION: ClassVar = "Detection"
    ROLES: ClassVar = BOTH
    lead_in: str = setting("auto", read_lead_in, "context asked before the interval: auto, none or an ISO period")
    empty: str = setting(
        "auto", choice("auto", "zero", "missing"), "what a bucket without events is to metrics that count"
    )
    mode: str = setting("whole", choice("whole", "causal"), "whole, or causal: judged only by what came before")
    alarms_per_day: float = setting(0.25, number(0), "alarm budget that a model's line keeps to; 0 = the fixed line")
    witness: bool = setting(True, read_flag, "whether a second detector must agree", default_text="on")
    stale_s: float = setting(900.0, _positive_s, "age of the newest event that is warned of")


@dataclass(frozen=True)
class Limits:
    SECTION: ClassVar = "Limits"
    ROLES: ClassVar = BOTH
    body_kb: int = setting(8192, integer(1), "largest request body")
    points: int = setting(50000, integer(1), "most buckets that a query may ask for")
    metrics: int = setting(64, integer(1), "most metrics in one query")
    concurrent_queries: int = setting(16, integer(1), "most Druid queries of a worker at one time")
    queue: int = setting(64, integer(0), "most requests that wait in a worker; more are answered 503")
    model_mb: float = setting(16.0, _positive_s, "largest model file")
    models_mb: float = setting(512.0, _positive_s, "memory for loaded models, per worker")


@dataclass(frozen=True)
class Store:
    SECTION: ClassVar = "Store"
    ROLES: ClassVar = BOTH
    kind: str = setting(
        "directory", choice("s3", "directory"), "where models are", default_text="s3 if `[AWS]` is set, else directory"
    )
    directory: str = setting(
        STATE_DIRECTORY + "/store",
        read_text,
        "the directory store; by default under `$XDG_STATE_HOME` where this cannot be written",
    )
    mirror: str = setting(
        STATE_DIRECTORY + "/mirror", read_text, "this node's copy of the models that are served; moves likewise"
    )
    refresh_s: float = setting(60.0, _positive_s, "how often the copy is brought up to date")


@dataclass(frozen=True)
class Aws:
    SECTION: ClassVar = "AWS"
    ROLES: ClassVar = BOTH
    hostname: str = setting("", read_s3_address, "address of the S3; none = Amazon's", key="s3_hostname")
    public_key: str = setting("", read_text, "access key; none = the machine's own credentials", key="s3_public_key")
    private_key: str = setting("", read_text, "secret of the access key", key="s3_private_key", secret=True)
    region: str = setting("us-east-1", read_text, "region", key="s3_region")
    bucket: str = setting("", read_text, "bucket; none = no S3", key="s3_bucket")


@dataclass(frozen=True)
class Redis:
    SECTION: ClassVar = "Redis"
    ROLES: ClassVar = TRAINER
    hostname: str = setting("127.0.0.1", read_text, "host of the Redis that holds the jobs", key="rd_hostname")
    port: int = setting(16379, integer(1, 65535), "its port", key="rd_port")
    secret: str = setting("", read_text, "its password; none = no password", key="rd_secret", secret=True)


@dataclass(frozen=True)
class Training:
    SECTION: ClassVar = "Training"
    ROLES: ClassVar = TRAINER
    granularities: tuple[str, ...] = setting(
        ("PT1M", "PT2M", "PT5M", "PT15M", "PT30M", "PT1H", "PT2H", "PT8H"),
        read_granularities,
        "granularities that a model is trained on",
    )
    days: int = setting(28, integer(1, 3660), "past that is learned from; twice that from 1 hour up")
    days_fine: int = setting(7, integer(1, 3660), "the same below 5 minutes")
    min_interval_s: float = setting(72000.0, number(0), "a name is left alone this long after its last outcome")
    discover_days: int = setting(7, integer(1, 3660), "past in which sensors are discovered")
    max_sensors: int = setting(1000, integer(1), "most sensors that are discovered")
    keep_versions: int = setting(5, integer(1), "versions of a model that are kept")
    retries: int = setting(3, integer(0, 100), "how often a failed job is tried again")
    job_timeout_s: float = setting(1800.0, _positive_s, "longest time that a job may take")
    metrics_address: str = setting("127.0.0.1", read_text, "address on which `schedule` answers `/metrics`")
    metrics_port: int = setting(39092, integer(0, 65535), "its port; 0 = none")


@dataclass(frozen=True)
class Consul:
    SECTION: ClassVar = "Consul"
    ROLES: ClassVar = EXECUTOR
    enabled: bool = setting(False, read_flag, "whether the executor registers itself (Chef does it today)")
    address: str = setting("127.0.0.1", read_text, "host of the agent")
    port: int = setting(8500, integer(1, 65535), "port of the agent's HTTP interface")
    token: str = setting("", read_text, "token for the agent", secret=True)
    check_interval_s: float = setting(10.0, _positive_s, "how often the agent asks `/ready`")
    deregister_after_s: float = setting(3600.0, _positive_s, "how long a failing node stays listed")


@dataclass(frozen=True)
class Log:
    SECTION: ClassVar = "Logger"
    ROLES: ClassVar = BOTH
    file: str = setting("", read_text, "file to log to; none = standard error", key="log_file")


@dataclass(frozen=True)
class Ntp:
    SECTION: ClassVar = "NTP"
    ROLES: ClassVar = BOTH
    server: str = setting("", read_text, "read and ignored: the clock is Druid's newest event", key="ntp_server")


@dataclass(frozen=True)
class Config:
    """All settings in force. `Config()` is what an empty file gives, but for the state directories' fallback."""

    server: Server = Server()
    testing: Testing = Testing()
    outliers: Outliers = Outliers()
    shallow: Shallow = Shallow()
    detection: Detection = Detection()
    druid: Druid = Druid()
    limits: Limits = Limits()
    store: Store = Store()
    aws: Aws = Aws()
    redis: Redis = Redis()
    training: Training = Training()
    consul: Consul = Consul()
    log: Log = Log()
    ntp: Ntp = Ntp()
    file: str = ""  # the INI file that was read, "" = none
    warnings: tuple[str, ...] = ()
    origins: Mapping[tuple[str, str], str] = dataclasses.field(default_factory=dict)  # (section, key): where from

    def for_development(self) -> Config:
        """Return the configuration that listens where `OutliersServerTesting` says."""
        server = dataclasses.replace(self.server, address=self.testing.address, port=self.testing.port)
        return dataclasses.replace(self, server=server)

    def secrets(self) -> tuple[str, ...]:
        """Return the secrets in force, for whoever must keep them out of sight."""
        values = (getattr(getattr(self, entry.group), entry.field) for entry in SETTINGS if entry.secret)
        return tuple(value for value in values if value)


GROUPS: dict[str, Any] = {
    field.name: type(field.default) for field in dataclasses.fields(Config) if hasattr(type(field.default), "SECTION")
}
SETTINGS: tuple[Setting, ...] = tuple(s for group, cls in GROUPS.items() for s in settings_of(group, cls))


def load_config(path: str | None = None, environ: Mapping[str, str] = os.environ, role: str | None = None) -> Config:
    """Read the configuration: file, then environment over it.

    path: the file (`--config`); else `$OUTLIERS_CONFIG`, else the first of SEARCHED_FILES that is there, else none.
    role: "executor" or "trainer": a wrong value that this role does not use is a warning; None checks all.
    Raises ConfigError, its `args` one sentence for each wrong value, with section, key, value and what is expected.
    """
    file = _find(path, environ)
    written, warnings = written_in(file, SETTINGS)
    warnings += override(written, environ, SETTINGS)
    values: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    origins: dict[tuple[str, str], str] = {}
    wrong: list[str] = []
    for entry in SETTINGS:
        try:
            text, origin = text_for(entry, written)
            if text and text not in PLACEHOLDERS:
                values[entry.group][entry.field] = _read(entry, text)
                origins[entry.section, entry.key] = origin
        except ConfigError as error:  # noqa: PERF203 - each wrong value is told
            if role is None or role in entry.roles:
                wrong.append(str(error))
            else:
                warnings.append(f"{error}; not used here")
    if wrong:
        raise ConfigError(*wrong)
    groups = {group: cls(**values[group]) for group, cls in GROUPS.items()}
    groups["store"] = _resolved_store(groups["store"], groups["aws"], values["store"], environ)
    return Config(**groups, file=file, warnings=tuple(warnings), origins=origins)


def in_force(config: Config) -> list[tuple[Setting, str, str]]:
    """Return (setting, its value as text with secrets masked, where it comes from) for every setting."""
    return [
        (entry, entry.show(getattr(getattr(config, entry.group), entry.field)),
         config.origins.get((entry.section, entry.key), "default"))
        for entry in SETTINGS
    ]  # fmt: skip


def settings_table() -> str:
    """Return the table of settings in Markdown, as the README shows it."""
    lines = ["| section | key | default | meaning |", "|---|---|---|---|"]
    for entry in SETTINGS:
        default = entry.default_text or " "
        shown = default if default == " " or "`" in default else f"`{default}`"
        lines.append(f"| `{entry.section}` | `{entry.key}` | {shown} | {entry.meaning} |")
    return "\n".join(lines)


def example_ini() -> str:
    """Return a configuration file with every setting, commented out at its default."""
    lines = ["# Every setting at its default. Remove the `#` before a line to change it.", ""]
    section = ""
    for entry in SETTINGS:
        if entry.section != section:
            section = entry.section
            lines += [f"[{section}]"]
        default = "" if "`" in entry.default_text else entry.default_text
        lines += [f"# {entry.meaning.replace('`', '')}", f"#{entry.key}={default}"]
    return "\n".join(lines) + "\n"


def _find(path: str | None, environ: Mapping[str, str]) -> str:
    named = path or environ.get("OUTLIERS_CONFIG")
    if named:
        return named
    return next((file for file in SEARCHED_FILES if os.path.exists(file)), "")


def _read(entry: Setting, text: str) -> Any:
    try:
        return entry.read(text)
    except ValueError as error:
        shown = "(hidden)" if entry.secret else text
        hint = ": a comment needs a line of its own" if re.search(r"\s[;#]", text) else ""
        raise ConfigError(f"[{entry.section}] {entry.key} = {shown} must be {error}{hint}") from None


def _resolved_store(store: Store, aws: Aws, given: Mapping[str, Any], environ: Mapping[str, str]) -> Store:
    """Fill in what defaults depend on: S3 where a bucket is set, a user's state directory where /var is closed."""
    changes: dict[str, Any] = {}
    if "kind" not in given and aws.bucket:
        changes["kind"] = "s3"
    if not _writable(STATE_DIRECTORY):
        state = environ.get("XDG_STATE_HOME") or os.path.join(
            environ.get("HOME", os.path.expanduser("~")), ".local/state"
        )
        own = {name: os.path.join(state, "rb-aioutliers", name) for name in ("store", "mirror")}
        changes.update({f: own[n] for f, n in (("directory", "store"), ("mirror", "mirror")) if f not in given})
    return dataclasses.replace(store, **changes)


def _writable(directory: str) -> bool:
    """Tell whether `directory` can be written, or made in the nearest parent that exists."""
    path = Path(directory)
    while not path.exists() and path != path.parent:
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)
