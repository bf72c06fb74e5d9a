"""A client that others wrote, against the simulator: what it takes for a Druid is one."""

from __future__ import annotations

import pytest

from outliers.druid.simulator import Simulator

pydruid_client = pytest.importorskip("pydruid.client", reason="pydruid is not installed")


@pytest.fixture
def pydruid(recorded: Simulator) -> object:
    return pydruid_client.PyDruid(recorded.url.replace("/druid/v2/", ""), "druid/v2")


def test_pydruid_reads_a_timeseries(pydruid: object) -> None:
    from pydruid.utils.aggregators import doublesum, longsum
    from pydruid.utils.filters import Dimension
    from pydruid.utils.postaggregator import Field

    answer = pydruid.timeseries(  # type: ignore[attr-defined]
        datasource="rb_flow",
        granularity="hour",
        intervals="2025-10-25T10:00:00Z/PT3H",
        aggregations={"bytes": longsum("sum_bytes"), "pkts": doublesum("sum_pkts")},
        post_aggregations={"mean": Field("bytes") / Field("pkts")},
        filter=(Dimension("sensor_name") == "edge-madrid") & (Dimension("application_id_name") != "dns"),
    )
    rows = list(answer)
    assert [row["timestamp"] for row in rows] == [f"2025-10-25T{hour}:00:00.000Z" for hour in (10, 11, 12)]
    for row in rows:
        assert row["result"]["mean"] == pytest.approx(row["result"]["bytes"] / row["result"]["pkts"])


def test_pydruid_reads_a_top_n_and_the_time_boundary(pydruid: object) -> None:
    from pydruid.utils.aggregators import longsum

    top = pydruid.topn(  # type: ignore[attr-defined]
        datasource="rb_flow",
        granularity="all",
        intervals="2025-10-20/2025-11-10",
        dimension="sensor_name",
        metric="flows",
        threshold=2,
        aggregations={"flows": longsum("events")},
    )
    assert [entry["sensor_name"] for entry in next(iter(top))["result"]] == ["edge-madrid", "edge-ny"]
    boundary = pydruid.time_boundary(datasource="rb_flow")  # type: ignore[attr-defined]
    assert next(iter(boundary))["result"]["maxTime"] == "2025-11-09T23:57:00.000Z"


def test_pydruid_is_told_why_a_query_is_refused(pydruid: object) -> None:
    with pytest.raises(OSError, match=r"Druid Error|500"):
        pydruid.timeseries(  # type: ignore[attr-defined]
            datasource="rb_flow", granularity="fortnight", intervals="2025-10-20/2025-11-10", aggregations={}
        )
