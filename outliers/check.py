"""`check --role executor|trainer`: the settings that were changed, and each dependency tried.

It must not change anything on this machine: whoever runs it may be another user than the service's. Of the S3 that a
trainer writes to, it asks to keep a small object for a moment.
One line a check: ok, note or WRONG, what was found, and what to do about it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from email.utils import parsedate_to_datetime
from typing import Optional

from outliers.config import Config, example_ini, in_force, load_config
from outliers.errors import ConfigError, OutliersError
from outliers.settings import Setting

OK, NOTE, WRONG = "ok", "note", "WRONG"
CLOCK_OFF_S = 60.0
DEFAULT_DATA_SOURCE = "rb_flow"


@dataclass(frozen=True)
class Finding:
    """One line. todo: what to do about it, "" = nothing."""

    state: str
    what: str
    found: str
    todo: str = ""


@dataclass
class Checked:
    """What was found so far, and the configuration and role that it is about."""

    config: Config
    role: str
    findings: list[Finding] = field(default_factory=list)

    def say(self, state: str, what: str, found: str, todo: str = "") -> None:
        self.findings.append(Finding(state, what, found, todo))

    @contextlib.contextmanager
    def trying(self, what: str, todo: str, state: str = WRONG) -> Iterator[None]:
        """Turn an error of ours into a line of what is wrong."""
        try:
            yield
        except OutliersError as error:
            self.say(state, what, str(error), todo)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--role", choices=("executor", "trainer"), default="executor", help="which node's configuration it is"
    )
    parser.add_argument("--all", action="store_true", help="show every setting, not only what is not its default")
    parser.add_argument("--json", action="store_true", help="as JSON, with every setting, instead of text")
    parser.add_argument("--example", action="store_true", help="print a configuration with every setting, nothing else")
    parser.add_argument("--offline", action="store_true", help="only the configuration and this machine: ask nobody")


def run_check(args: argparse.Namespace, config: Config) -> int:
    """Check, print, and return 0 when nothing is wrong."""
    if args.example:
        print(example_ini(), end="")
        return 0
    try:
        config = load_config(args.config, os.environ, args.role)
    except ConfigError as error:
        checked = Checked(config, args.role)
        for sentence in error.args:
            checked.say(WRONG, "configuration", sentence, "correct it in the file or the environment")
    else:
        checked = check(config, args.role, offline=args.offline)
    wrong = any(finding.state == WRONG for finding in checked.findings)
    print(_as_json(checked) if args.json else _as_text(checked, args.all))
    return int(wrong)


def check(config: Config, role: str, *, offline: bool = False) -> Checked:
    """Try all that a role depends on."""
    checked = Checked(config, role)
    executor = role == "executor"
    steps: list[Callable[[Checked], None]] = [_configuration, _runtime, _log_file]
    steps += [_listening, _mirror] if executor else [_names, _backup]
    if not offline:
        steps += [_druid, _store, _consul] if executor else [_druid, _store, _redis]
        steps.append(_clock)
    for step in steps:
        step(checked)
    return checked


# --- this machine ---------------------------------------------------------------------------------------------------


def _configuration(checked: Checked) -> None:
    config = checked.config
    checked.say(OK, "configuration", f"read from {config.file}" if config.file else "no file: defaults")
    for warning in config.warnings:
        checked.say(NOTE, "configuration", warning)
    if config.aws.hostname and not config.aws.bucket and config.store.kind == "directory":
        todo = "[AWS] s3_bucket names the bucket"
        checked.say(NOTE, "configuration", "[AWS] s3_hostname is set, but a local directory is the store", todo)
    if config.druid.user and not config.druid.password:
        todo = "[Druid] password, or no user"
        checked.say(NOTE, "configuration", "[Druid] user is set without a password", todo)


def _runtime(checked: Checked) -> None:
    """Import what the role cannot do without; a broken package shows here."""
    needed = ("numpy", "onnxruntime", *(("torch", "onnx", "rq") if checked.role == "trainer" else ("waitress",)))
    for name in needed:
        try:
            module = __import__(name)
        except (ImportError, OSError) as error:  # noqa: PERF203 - each is told
            checked.say(WRONG, "runtime", f"{name} cannot be imported: {error}", "install this role's package again")
        else:
            version = getattr(module, "__version__", getattr(module, "VERSION", ""))
            checked.say(OK, "runtime", f"{name} {version}".strip())


def _log_file(checked: Checked) -> None:
    file = checked.config.log.file
    if not file:
        checked.say(OK, "log", "standard error")
        return
    directory = os.path.dirname(os.path.abspath(file))
    writable = os.access(file, os.W_OK) if os.path.exists(file) else os.access(directory, os.W_OK | os.X_OK)
    if writable:
        checked.say(OK, "log", file)
    else:
        todo = f"give this user {directory}; until then the log goes to standard error"
        checked.say(WRONG, "log", f"{file} cannot be written", todo)


def _listening(checked: Checked) -> None:
    server = checked.config.server
    where = f"{server.address}:{server.port}"
    try:
        family = socket.AF_INET6 if ":" in server.address else socket.AF_INET
        with socket.socket(family) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((server.address, server.port))
    except OSError as error:
        if error.errno == 98:  # in use
            checked.say(NOTE, "address", f"{where} is in use", "fine where the executor is running")
        else:
            checked.say(WRONG, "address", f"cannot listen on {where}: {error.strerror}", "correct the address or port")
    else:
        checked.say(OK, "address", where)
    if server.address not in ("127.0.0.1", "::1", "localhost") and not server.token:
        checked.say(NOTE, "address", "anybody who reaches it may ask", "[Server] token asks callers for one")


def _mirror(checked: Checked) -> None:
    from outliers.store import last_report

    directory = checked.config.store.mirror
    _writable_directory(checked, "mirror", directory)
    report = last_report(directory)
    if report is not None:
        age_s = time.time() - report.finished_at
        checked.say(NOTE if report.error else OK, "mirror", f"{report.models} models, {age_s:.0f} s old", report.error)


def _backup(checked: Checked) -> None:
    if checked.config.outliers.backup_path:
        _writable_directory(checked, "backup", os.path.abspath(checked.config.outliers.backup_path))


def _writable_directory(checked: Checked, what: str, directory: str) -> None:
    """Say whether this user may write there, without doing so."""
    there = os.path.abspath(directory)
    while not os.path.exists(there) and os.path.dirname(there) != there:
        there = os.path.dirname(there)
    if not os.path.isdir(there) or not os.access(there, os.W_OK | os.X_OK):
        found = "cannot be written" if os.path.isdir(there) else "is not a directory"
        checked.say(WRONG, what, f"{there} {found}", f"make {directory} and give it to the service's user")
    elif os.path.isdir(directory):
        checked.say(OK, what, directory)
    else:
        checked.say(OK, what, f"{directory} does not exist yet: the service makes it")


def _names(checked: Checked) -> None:
    outliers = checked.config.outliers
    both = sorted(set(outliers.model_names) & set(outliers.target_sensors))
    if both:
        todo = "take them out of one: each name stands for one model"
        checked.say(WRONG, "names", f"in model_names and in target_sensors: {', '.join(both)}", todo)
    sensors = f"{len(outliers.target_sensors)} sensors" if outliers.target_sensors else "sensors discovered in Druid"
    checked.say(OK, "names", f"{sensors}, {len(outliers.model_names)} models by name")


# --- dependencies ---------------------------------------------------------------------------------------------------


def _druid(checked: Checked) -> None:
    from outliers.druid.client import Druid

    settings = checked.config.druid
    sources = settings.data_sources or (DEFAULT_DATA_SOURCE,)
    druid = Druid(settings)
    try:
        for source in sources:
            with checked.trying("Druid", "correct [Druid] druid_endpoint, or see to the broker"):
                bounds = druid.bounds(source)
                if bounds is None:
                    checked.say(NOTE, "Druid", f"answers; {source} has no events", "[Druid] data_sources names others")
                    continue
                age_s = time.time() - bounds[1]
                stale = age_s > checked.config.detection.stale_s
                state = NOTE if stale or age_s < -300 else OK
                todo = "the ingestion lags, or a clock is wrong" if state == NOTE else ""
                checked.say(state, "Druid", f"answers; the newest event of {source} is {age_s:.0f} s old", todo)
                if checked.role == "trainer":
                    _discovered(checked, druid.top_sensors(source, *_discovery(checked.config)))
    finally:
        druid.close()


def _discovery(config: Config) -> tuple[float, int]:
    return config.training.discover_days, config.training.max_sensors


def _discovered(checked: Checked, sensors: list[str]) -> None:
    """A model by name that is a sensor's too would be trained twice, each time on something else."""
    both = sorted(set(checked.config.outliers.model_names) & set(sensors))
    if both:
        checked.say(WRONG, "names", f"in model_names, but sensors in Druid: {', '.join(both)}", "give them other names")
    if not checked.config.outliers.target_sensors:
        checked.say(OK if sensors else NOTE, "names", f"{len(sensors)} sensors discovered in Druid")


def _store(checked: Checked) -> None:
    from outliers.store import open_store

    store = open_store(checked.config)
    trainer = checked.role == "trainer"
    where = "[AWS]" if checked.config.store.kind == "s3" else "[Store] directory"
    served: Optional[int] = None
    with checked.trying("store", f"correct {where}; until then executors go on with the models that they have"):
        served = len(store.latest())
        if checked.config.store.kind == "s3" or os.path.isdir(checked.config.store.directory):
            checked.say(OK, "store", f"{store.what}: {served} models served")
        else:
            directory = checked.config.store.directory
            checked.say(NOTE, "store", f"{directory} does not exist yet", "the first training makes it")
        for name in checked.config.outliers.model_names if trainer else ():
            if store.filter(name) is None:
                checked.say(NOTE, "store", f"{name} has no filter", "it is trained on the whole data source")
    if not trainer or served is None:
        return  # an executor only reads
    if checked.config.store.kind == "directory":
        _writable_directory(checked, "store, writing", checked.config.store.directory)
        return
    with checked.trying("store, writing", f"correct {where}"):
        if store.probe():
            checked.say(OK, "store, writing", "works, of two writers one wins")
        else:
            todo = "run one worker, or two may believe to have published"
            checked.say(NOTE, "store, writing", "this S3 knows no conditional writes", todo)


def _redis(checked: Checked) -> None:
    from outliers.train.queue import connect, redis_errors

    with checked.trying("Redis", "correct [Redis], or start it; without it nothing is scheduled"):
        connection = connect(checked.config.redis)
        try:
            with redis_errors():
                connection.ping()
        finally:
            connection.close()
        checked.say(OK, "Redis", "answers")


def _consul(checked: Checked) -> None:
    from outliers.web.consul import ConsulAgent

    if not checked.config.consul.enabled:
        checked.say(OK, "Consul", "not used ([Consul] enabled=false)")
        return
    with checked.trying("Consul", "correct [Consul], or start the agent; the executor keeps trying"):
        agent = ConsulAgent(checked.config)
        registered = agent.is_registered()
        checked.say(OK, "Consul", f"answers; {agent.service_id} is {'' if registered else 'not '}registered")


def _clock(checked: Checked) -> None:
    """Compare this node's clock with the one that the broker or S3 stamps its answers with."""
    config = checked.config
    asked = [("Druid", config.druid.endpoint), ("S3", config.aws.hostname if config.store.kind == "s3" else "")]
    for who, address in asked:
        off_s = _clock_off_s(address) if address else None
        if off_s is None:
            continue
        if abs(off_s) > CLOCK_OFF_S:
            checked.say(WRONG, "clock", f"{off_s:+.0f} s from the clock of {who}", "set it by NTP (chrony)")
        else:
            checked.say(OK, "clock", f"within {CLOCK_OFF_S:.0f} s of {who}'s")
        return
    checked.say(NOTE, "clock", "nobody told the time", "")


def _clock_off_s(address: str) -> Optional[float]:
    import requests

    try:
        answer = requests.head(address, timeout=(2, 5), allow_redirects=False)
        return time.time() - parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (requests.RequestException, KeyError, ValueError, TypeError):
        return None


# --- telling --------------------------------------------------------------------------------------------------------


def _used_settings(checked: Checked) -> list[tuple[Setting, str, str]]:
    """Return (setting, its value as text, where it comes from) of the settings that the role uses."""
    return [line for line in in_force(checked.config) if checked.role in line[0].roles]


def _as_text(checked: Checked, every: bool) -> str:
    lines = []
    for entry, shown, _ in _used_settings(checked):
        own = shown != entry.show(entry.default)
        if own or every:
            lines.append(f"  {'*' if own else ' '} [{entry.section}] {entry.key} = {shown}")
    others = "" if every else "; --all shows the others too"
    listed = f"settings in force (* = not the default{others}):"
    lines = [listed if lines else "every setting has its default (--all shows them)", *lines, ""]
    for finding in checked.findings:
        todo = f" ({finding.todo})" if finding.todo else ""
        lines.append(f"{finding.state:<5} {finding.what:<14} {finding.found}{todo}")
    wrong = sum(finding.state == WRONG for finding in checked.findings)
    lines.append(f"\n{checked.role}: " + (f"{wrong} wrong" if wrong else "all is well"))
    return "\n".join(lines)


def _as_json(checked: Checked) -> str:
    settings = [
        {"section": entry.section, "key": entry.key, "value": shown, "origin": origin}
        for entry, shown, origin in _used_settings(checked)
    ]
    checks = [asdict(finding) for finding in checked.findings]
    return json.dumps({"role": checked.role, "settings": settings, "checks": checks}, indent=1)
