from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outliers.config import SETTINGS, Config, example_ini, in_force, load_config, settings_table
from outliers.errors import ConfigError
from outliers.settings import read_list, text_of

CHEF = Path(__file__).parent / "data" / "chef_config.ini"


def load(tmp_path: Path, text: str = "", environ: dict[str, str] | None = None, role: str | None = None) -> Config:
    file = tmp_path / "config.ini"
    file.write_text(text, encoding="utf-8")
    return load_config(str(file), environ or {}, role)


def test_file_of_the_cookbook_is_read_unchanged() -> None:
    config = load_config(str(CHEF), {})
    assert (config.server.address, config.server.port) == ("0.0.0.0", 39091)
    assert (config.server.workers, config.server.threads) == (4, 20)
    assert config.for_development().server.port == 39091
    assert config.outliers.metric == "bytes"
    assert config.outliers.schedule_hour == "* * * * *"
    assert (config.outliers.epochs, config.outliers.batch_size) == (20, 32)
    assert config.outliers.backup_path == "./backups/"
    assert config.outliers.model_names == ("traffic",)
    assert config.outliers.target_sensors == ()
    assert (config.shallow.sensitivity, config.shallow.contamination) == (0.95, 0.01)
    assert config.druid.endpoint == "http://druid-broker.service:8082/druid/v2/"
    assert config.log.file == "/var/log/rb-aioutliers/outliers.log"
    assert config.aws.hostname == "http://s3.service:9000"
    assert config.aws.private_key == "a%secret/with+signs"
    assert (config.aws.region, config.aws.bucket) == ("es", "bucket")
    assert config.store.kind == "s3"
    assert (config.redis.hostname, config.redis.port, config.redis.secret) == ("127.0.0.1", 16379, "")
    assert config.ntp.server == ""
    assert config.warnings == ()
    assert config.file == str(CHEF)


def test_no_file_at_all_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outliers.config.SEARCHED_FILES", ("/nonexistent/config.ini",))
    config = load_config(None, {})
    assert (config.server.address, config.store.kind, config.file) == ("127.0.0.1", "directory", "")
    defaults = dataclasses.replace(Config(), store=config.store)
    assert dataclasses.replace(config, origins={}) == defaults


def test_search_order_is_argument_environment_then_known_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {}
    for name in ("argument", "environment", "etc", "chef"):
        files[name] = str(tmp_path / name)
        Path(files[name]).write_text(f"[Outliers]\nmetric={name}\n")
    monkeypatch.setattr("outliers.config.SEARCHED_FILES", (files["etc"], files["chef"]))
    environ = {"OUTLIERS_CONFIG": files["environment"]}
    assert load_config(files["argument"], environ).outliers.metric == "argument"
    assert load_config(None, environ).outliers.metric == "environment"
    assert load_config(None, {}).outliers.metric == "etc"
    Path(files["etc"]).unlink()
    assert load_config(None, {}).outliers.metric == "chef"


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_named_file_that_is_absent_is_an_error(how: str) -> None:
    with pytest.raises(ConfigError, match="/nonexistent cannot be read: No such file"):
        load_config("/nonexistent" if how == "argument" else None, {"OUTLIERS_CONFIG": "/nonexistent"})


@pytest.mark.parametrize("content", [b"no section\n", b"[a\n", b"[a]\nno value\n", b"[a]\nx=1\nx=2\n", b"\xff\xfe\x00"])
def test_file_that_is_no_ini_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.ini").write_bytes(content)
    with pytest.raises(ConfigError, match="configuration file") as caught:
        load_config(str(tmp_path / "c.ini"), {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["\ufeff[Outliers]\r\nmetric = pkts\r\n", "[outliers]\nMETRIC: pkts\n"])
def test_bom_line_ends_and_case_do_not_matter(tmp_path: Path, text: str) -> None:
    config = load(tmp_path, text)
    assert (config.outliers.metric, config.warnings) == ("pkts", ())


@pytest.mark.parametrize("secret", ["100%", "%(x)s", "a%%b", "#a;b", "a = b", "ñ€"])
def test_secret_is_taken_as_it_stands(tmp_path: Path, secret: str) -> None:
    assert load(tmp_path, f"[Redis]\nrd_secret={secret}\n").redis.secret == secret


def test_placeholders_and_empty_values_mean_unset(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "[AWS]\ns3_hostname=x.x.x.x\ns3_public_key=my_key\ns3_private_key=my_secret\ns3_bucket=my_bucket\n"
        "[Redis]\nrd_hostname=x.x.x.x\nrd_secret=my_secret\nrd_port=\n[Outliers]\ntarget_sensors=\n",
    )
    assert config.aws == Config().aws
    assert config.redis == Config().redis
    assert config.store.kind == "directory"
    assert config.outliers.target_sensors == ()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a, b", ("a", "b")),  # read wrongly by the service that this one replaces
        ("FlowSensor", ("FlowSensor",)),
        (" a ,, b,", ("a", "b")),
        ('"Madrid, north",b', ("Madrid, north", "b")),
        ('"say ""hi""", b', ('say "hi"', "b")),
        ("a\nb, c", ("a", "b", "c")),
        ("a,b,a", ("a", "b")),
        ("it's,5\" disk", ("it's", '5" disk')),
        ("", ()),
    ],
)
def test_read_list_of(text: str, names: tuple[str, ...]) -> None:
    assert read_list(text) == names


name = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp", "Cs")), min_size=1, max_size=12).map(
    str.strip
)


@given(st.lists(name.filter(bool), unique=True, max_size=5))
def test_read_list_reads_what_text_of_wrote(names: list[str]) -> None:
    assert read_list(text_of(tuple(names))) == tuple(names)


def test_environment_overrides_the_file(tmp_path: Path) -> None:
    environ = {"OUTLIERS_DRUID__TIMEOUT_S": "7.5", "OUTLIERS_OUTLIERSSERVERPRODUCTION__OUTLIERS_SERVER_PORT": "0"}
    config = load(tmp_path, "[Druid]\ntimeout_s=9\n", environ)
    assert (config.druid.timeout_s, config.server.port) == (7.5, 0)
    assert config.origins["Druid", "timeout_s"] == "environment"


def test_other_variables_are_left_alone(tmp_path: Path) -> None:
    environ = {"OUTLIERS_CONFIG": "x", "OUTLIERS_TEST_S3_URL": "http://x", "PATH": "/bin"}
    environ.update({"OUTLIERS_TEST_DRUID_URL": "http://x", "OUTLIERS_SERVICE_HOST": "10.0.0.1", "OUTLIERS_PORT": "80"})
    assert load(tmp_path, "", environ).warnings == ()


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("OUTLIERS_DRUID_TIMEOUT_S", "OUTLIERS_DRUID__TIMEOUT_S"),
        ("OUTLIERS_REDIS_PORT", "OUTLIERS_REDIS__RD_PORT"),
        ("OUTLIERS_STORE_DIRECTORY", "OUTLIERS_STORE__DIRECTORY"),
    ],
)
def test_variable_with_one_underscore_too_few_is_told(variable: str, meant: str, tmp_path: Path) -> None:
    assert load(tmp_path, "", {variable: "3"}).warnings == (f"{variable} is ignored; is it {meant}?",)


@pytest.mark.parametrize("where", ["environment", "ini"])
def test_secret_may_stand_in_a_file(tmp_path: Path, where: str) -> None:
    (tmp_path / "secret").write_text("from a file\n")
    path = str(tmp_path / "secret")
    if where == "environment":
        config = load(tmp_path, "[Server]\ntoken=inline\n", {"OUTLIERS_SERVER__TOKEN_FILE": path})
    else:
        config = load(tmp_path, f"[Server]\ntoken_file={path}\n")
    assert (config.server.token, config.warnings) == ("from a file", ())


def test_secret_from_the_environment_replaces_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from a file")
    text = f"[Redis]\nrd_secret_file={tmp_path / 'secret'}\n"
    assert load(tmp_path, text, {"OUTLIERS_REDIS__RD_SECRET": "direct"}).redis.secret == "direct"


def test_secret_file_that_is_absent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[Server\] token_file = /nonexistent cannot be read: No such file"):
        load(tmp_path, "[Server]\ntoken_file=/nonexistent\n")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[OutliersServerProduction]\noutliers_server_port=http", "a whole number from 0 to 65535"),
        ("[OutliersServerProduction]\noutliers_server_port=70000", "a whole number from 0 to 65535"),
        ("[OutliersServerProduction]\noutliers_server_workers=0", "a whole number from 1 to 256"),
        ("[Outliers]\nschedule_hour=daily", "a cron line of five fields"),
        ("[Outliers]\nschedule_hour=99 * * * *", "a cron line of five fields"),
        ("[Outliers]\nepochs=-1", "a whole number from 1 to 10000"),
        ("[Outliers]\ntarget_sensors=\"open", "quoted as in CSV"),
        ("[ShallowOutliers]\nsensitivity=2", "at most 1"),
        ("[ShallowOutliers]\nsensitivity=nan", "at most 1"),
        ("[Druid]\ndruid_endpoint=druid:8082", "starts with http://"),
        ("[Druid]\ntimeout_s=0", "a number above 0"),
        ("[Druid]\ntimeout_s=inf", "a number above 0"),
        ("[Detection]\nlead_in=1 day", "auto, none or an ISO period"),
        ("[Detection]\nempty=maybe", "one of auto, zero, missing"),
        ("[Detection]\nwitness=perhaps", "true or false"),
        ("[Training]\ngranularities=1m", "ISO periods"),
        ("[Store]\nkind=ftp", "one of s3, directory"),
        ("[AWS]\ns3_hostname=ftp://x", "starts with http://"),
    ],
)  # fmt: skip
def test_wrong_value_is_named_with_what_is_expected(tmp_path: Path, line: str, words: str) -> None:
    section, assignment = line.split("\n")
    key, _, value = assignment.partition("=")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, line + "\n")
    message = str(caught.value)
    assert message.startswith(f"{section} {key} = {value} must be ")
    assert words in message
    assert "\n" not in message


def test_all_wrong_values_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[Druid\] timeout_s.*; \[Redis\] rd_port"):
        load(tmp_path, "[Druid]\ntimeout_s=x\n[Redis]\nrd_port=y\n")


def test_a_comment_behind_a_value_is_one_error_that_says_where_comments_go(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "[Druid]\ntimeout_s = 5 ; seconds\n[Redis]\nrd_port = y\n")
    first, second = caught.value.args
    assert first == ("[Druid] timeout_s = 5 ; seconds must be a number above 0: a comment needs a line of its own")
    assert second.startswith("[Redis] rd_port = y must be a whole number") and "comment" not in second


def test_role_checks_only_what_it_uses(tmp_path: Path) -> None:
    text = "[Redis]\nrd_port=y\n"
    config = load(tmp_path, text, role="executor")
    assert config.redis.port == 16379
    assert "rd_port = y" in config.warnings[0]
    with pytest.raises(ConfigError):
        load(tmp_path, text, role="trainer")
    assert load(tmp_path, "[Consul]\nport=y\n", role="trainer").consul.port == 8500


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("[Druid]\ntimeuot_s=3\n", "[Druid] timeuot_s is not known and is ignored; is it timeout_s?"),
        ("[Drood]\nx=3\n", "section [Drood] is not known and is ignored; is it Druid?"),
        ("[Elsewhere]\nx=3\n", "section [Elsewhere] is not known and is ignored"),
    ],
)
def test_unknown_key_is_warned_of(tmp_path: Path, text: str, warning: str) -> None:
    assert load(tmp_path, text).warnings == (warning,)


def test_unknown_variable_is_warned_of(tmp_path: Path) -> None:
    (warning,) = load(tmp_path, "", {"OUTLIERS_DRUID__TIMEOUT": "3"}).warnings
    assert warning.startswith("OUTLIERS_DRUID__TIMEOUT: ")


def test_secrets_are_shown_nowhere(tmp_path: Path) -> None:
    text = "".join(f"[{s.section}]\n{s.key}=hush{n}\n" for n, s in enumerate(SETTINGS) if s.secret)
    config = load(tmp_path, text)
    assert len(config.secrets()) == 5
    assert "hush" not in repr(config)
    assert "hush" not in str(in_force(config))
    assert [shown for entry, shown, _ in in_force(config) if entry.secret] == ["(set)"] * 5


def test_state_directories_follow_xdg_where_var_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outliers.config.STATE_DIRECTORY", str(tmp_path / "config.ini" / "state"))
    config = load(tmp_path, "[Store]\nmirror=/given\n", {"XDG_STATE_HOME": "/home/x/state"})
    assert config.store.directory == "/home/x/state/rb-aioutliers/store"
    assert config.store.mirror == "/given"
    config = load(tmp_path, "", {"HOME": "/home/x"})
    assert config.store.mirror == "/home/x/.local/state/rb-aioutliers/mirror"


def test_every_default_reads_back_as_itself() -> None:
    for entry in SETTINGS:
        if entry.default not in ("", ()):
            assert entry.read(text_of(entry.default)) == entry.default, entry


def test_settings_in_force_are_all_there(tmp_path: Path) -> None:
    shown = {(e.section, e.key): (text, origin) for e, text, origin in in_force(load(tmp_path, "[Limits]\npoints=7\n"))}
    assert shown["Limits", "points"] == ("7", "file")
    assert shown["Limits", "metrics"] == ("64", "default")
    assert len(shown) == len(SETTINGS)


def test_example_file_is_read_without_a_word_and_changes_nothing(tmp_path: Path) -> None:
    config = load(tmp_path, example_ini())
    assert (config.warnings, config.origins) == ((), {})
    uncommented = re.sub(r"(?m)^#(\w+=)", r"\1", example_ini())
    assert load(tmp_path, uncommented).warnings == ()
    assert load(tmp_path, uncommented).training == Config().training


def test_metric_is_read_by_both_roles(tmp_path: Path) -> None:
    (metric,) = [entry for entry in SETTINGS if entry.key == "metric"]
    assert metric.roles == ("executor", "trainer")


def test_table_of_settings_has_every_key_and_its_default() -> None:
    table = settings_table()
    for entry in SETTINGS:
        assert f"| `{entry.section}` | `{entry.key}` |" in table
    assert re.search(r"\| `Druid` \| `timeout_s` \| `20` \|", table)
