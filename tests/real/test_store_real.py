"""The store on a real MinIO: conditional publishing, wrong credentials, a server that goes and comes back."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from outliers.config import Config, load_config
from outliers.errors import Conflict, StoreUnavailable
from outliers.store import Mirror, Store, new_version, open_store
from tests.real.conftest import ours
from tests.real.servers.fleet import Place, Sections, ini, sections_for
from tests.real.servers.minio import Minio, s3_client

PUBLISHERS = 8


def config_of(sections: Sections, folder: Path) -> Config:
    file = folder / "config.ini"
    file.write_text(ini(sections))
    return load_config(str(file), {})


@pytest.fixture
def sections(s3: Place, request: pytest.FixtureRequest) -> Sections:
    """A bucket of the test's own."""
    bucket = f"store-{time.time_ns():x}"
    s3_client(s3.url, s3.user, s3.secret).create_bucket(Bucket=bucket)
    return sections_for({"s3": s3}, bucket)


@pytest.fixture
def store(sections: Sections, tmp_path: Path) -> Store:
    return open_store(config_of(sections, tmp_path))


@pytest.mark.parametrize("first", [True, False], ids=["a first model", "a further version"])
def test_of_many_publishers_at_once_exactly_one_wins(
    first: bool, sections: Sections, store: Store, tmp_path: Path
) -> None:
    name = 'odd/"name" ñ'
    expected = None if first else store.publish(name, new_version(), b"old", None, None)
    versions = [new_version() for _ in range(PUBLISHERS)]
    stores = [open_store(config_of(sections, tmp_path)) for _ in versions]  # connections of their own
    for each in stores:
        each.latest()  # connected, so that all are equally fast

    def publish(number: int) -> str:
        try:
            version = versions[number]
            return stores[number].publish(name, version, f"model {number}".encode(), b"weights", expected).version
        except Conflict as error:
            return str(error)

    with ThreadPoolExecutor(PUBLISHERS) as pool:
        outcomes = list(pool.map(publish, range(PUBLISHERS)))
    won = [number for number, each in enumerate(outcomes) if each == versions[number]]
    lost = {each for number, each in enumerate(outcomes) if number not in won}
    assert len(won) == 1, outcomes
    assert all("published first" in each for each in lost), outcomes
    data, latest = store.get_latest(name)
    assert (data, latest.version) == (f"model {won[0]}".encode(), versions[won[0]])
    stored = {each.version for each in store.versions(name)}
    assert stored == {versions[won[0]]} | ({expected.version} if expected else set())


def test_wrong_credentials_are_told_without_the_secret(sections: Sections, tmp_path: Path) -> None:
    secret = "not the secret"
    sections["AWS"]["s3_private_key"] = secret
    with pytest.raises(StoreUnavailable) as told:
        open_store(config_of(sections, tmp_path)).latest()
    assert "credentials" in str(told.value)
    assert secret not in str(told.value)


def test_a_store_that_goes_keeps_the_mirror_and_serves_the_same_when_it_is_back(
    s3: Place, store: Store, tmp_path: Path
) -> None:
    minio = ours(s3, Minio)
    store.publish("sensor", new_version(), b"a model", None, None)
    mirror = Mirror(store, str(tmp_path / "mirror"))
    assert mirror.refresh().fetched == 1
    kept = sorted(each.name for each in (tmp_path / "mirror").iterdir() if each.suffix == ".onnx")
    minio.kill()
    try:
        report = mirror.refresh()
        assert report.error
        assert sorted(each.name for each in (tmp_path / "mirror").iterdir() if each.suffix == ".onnx") == kept != []
        with pytest.raises(StoreUnavailable):
            store.get_latest("sensor")
    finally:
        minio.start()
    assert store.get_latest("sensor")[0] == b"a model"
    assert mirror.refresh().error == ""
