"""Detection does not fall: the scorer's figures are right, and the detector without a model keeps its quality.

Reads ../shared/data/labelled when it is beside the checkout (skipped, saying so, when not) and the simulator always.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import quality, scorer
from benchmarks.labelled import read_file, read_folder
from benchmarks.quality import Protocol
from benchmarks.simulated import read_simulator

LABELLED = Path(__file__).parents[2] / "shared" / "data" / "labelled"
STRETCH = 3_000
VUS_44 = 0.2934058637912151  # what TSB-AD's form gives


@pytest.fixture(scope="module")
def simulated():
    return [item for item in read_simulator() if item.label[len(item.label) // 2 :].any() or item.name[:5] == "quiet"]


@pytest.fixture(scope="module")
def labelled():
    if not LABELLED.is_dir():
        pytest.skip("labelled series are not beside this checkout: quality is tested on the simulator only")
    return [item for item in read_folder(LABELLED) if item.family == "KPI" or item.name in ("service2", "service11")]


def test_scorer_of_a_hand_made_series():
    labels = np.array([0, 0, 1, 1, 0, 0, 0, 1, 0, 0], bool)
    flags = np.array([0, 1, 0, 1, 0, 1, 0, 0, 0, 0], bool)
    scores = np.array([0, 0.6, 0.2, 0.9, 0, 0.7, 0, 0.1, 0, 0])
    figures = scorer.measure(labels, scores, flags, np.arange(10.0))
    assert figures["f1"] == pytest.approx(2 / 6)
    assert figures["event_recall"] == 0.5 and figures["event_f1"] == pytest.approx(2 * 0.5 / 3 / (0.5 + 1 / 3))
    assert figures["false_alarms_per_1k"] == pytest.approx(2000 / 7)
    assert figures["delay_points"] == 1
    assert figures["best_f1"] == pytest.approx(6 / 8)


def test_vus_pr_agrees_with_the_published_form():
    """Values of TSB-AD's RangeAUC_volume_opt, 250 thresholds, for this very series."""
    rng = np.random.default_rng(0)
    labels = np.zeros(600, bool)
    labels[100:112] = labels[300:301] = labels[560:600] = True
    scores = np.round(rng.gamma(1.0, 1.0, 600) + labels * rng.random(600) * 2, 2)
    assert scorer.vus_pr(labels, scores, 44) == pytest.approx(VUS_44, abs=1e-9)
    assert scorer.vus_pr(labels, labels.astype(float), 0) == pytest.approx(1.0, abs=1e-9)


def test_series_without_an_event_has_no_figures_but_its_false_alarms():
    figures = scorer.measure(np.zeros(50, bool), np.zeros(50), np.zeros(50, bool), np.arange(50.0))
    assert figures.pop("false_alarms_per_1k") == 0
    assert set(figures.values()) == {None}


def test_stated_alarms_are_compared_with_those_that_were_found():
    rows = [{"false_alarms": n, "days_without_event": 20.0} for n in (5, 9, 17, 60, 0)]
    told = quality.stated_and_found(rows, 0.25)
    assert told == (
        "false alarms a day: stated 0.25, found 0.91; true within a factor of 2 for 40% of the series, of 4 for 60%; "
        "more than twice as many for 40%"
    )


def test_runs_less_than_an_hour_apart_are_one_false_alarm():
    labels, flags = np.zeros(300, bool), np.zeros(300, bool)
    labels[200:210] = True
    flags[[10, 11, 60, 150, 205]] = True
    assert scorer.false_alarms(labels, flags, 60) == 2
    assert scorer.false_alarms(labels, flags, 30) == 3
    assert scorer.false_alarms(labels, labels, 60) == 0


def test_command_scores_a_folder_of_csv_files(tmp_path, capsys):
    rng = np.random.default_rng(1)
    values, labels = 100 + rng.normal(size=(1200, 2)), np.zeros(1200, int)
    values[900:905], labels[900:905] = 160, 1
    (tmp_path / "data" / "made").mkdir(parents=True)
    for name, columns, openly in (("one.csv", 1, open), ("two.csv.gz", 2, gzip.open)):
        with openly(tmp_path / "data" / "made" / name, "wt") as file:
            file.write("timestamp," + ",".join(f"m{i}" for i in range(columns)) + ",label\n")
            for i in range(1200):
                clock = np.datetime64(1_700_000_000 + 60 * i, "s")
                file.write(f"{clock}Z," + ",".join(map(str, values[i, :columns])) + f",{labels[i]}\n")
    for query, lead_in, mode in (("hour", "none", "whole"), ("day", "P1D", "causal"), ("all", "none", "whole")):
        out = tmp_path / "out.json"
        given = {"--data": tmp_path / "data", "--detector": "baseline", "--query": query, "--lead-in": lead_in}
        given |= {"--mode": mode, "--json": out, "--processes": 1}
        quality.main([str(word) for option in given.items() for word in option])
        answer = json.loads(out.read_text())
        assert answer["families"]["made"]["n"] == 2
        assert {row["name"] for row in answer["series"]} == {"one", "two"}
        for row in answer["series"]:
            assert row["family"] == "made" and row["event_recall"] == 1.0 and row["vus_pr"] > 0.5
            counted = {"false_alarms", "days_without_event"}
            assert set(quality.FIGURES) | counted | {"fit_s", "answer_ms", "family", "name"} == set(row)
            assert row["false_alarms"] >= 0 and 0 < row["days_without_event"] <= 1200 / 1440
    assert "made" in capsys.readouterr().out


def test_gaps_and_repeated_rows_are_put_on_the_grid(tmp_path):
    path = tmp_path / "gap.csv"
    path.write_text("timestamp,value,label\n0,1,0\n60,2,0\n60,3,0\n240,4,1\n300,5,0\n360,6,0\n")
    item = read_file(path, "f")
    assert item.series.step_s == 60 and item.position.tolist() == [0, 1, 1, 4, 5, 6]
    np.testing.assert_equal(item.series.values[:, 0], [1, 3, np.nan, np.nan, 4, 5, 6])


@pytest.mark.parametrize(("query", "lead_in", "mode"), [("all", "none", "whole"), ("hour", "P1D", "whole")])
def test_quality_on_the_simulators_sensors_has_not_fallen(simulated, query, lead_in, mode):
    rows = quality.run(simulated, Protocol("baseline", query, lead_in, mode))
    busy = [row for row in rows if row["event_f1"] is not None and not row["name"].startswith("warehouse")]
    assert len(busy) == 5
    assert np.mean([row["vus_pr"] for row in busy]) > 0.9
    assert np.mean([row["event_recall"] for row in busy]) > 0.9
    assert np.mean([row["event_f1"] for row in busy]) > 0.7
    quiet = [row for row in rows if row["name"].startswith("quiet")]
    assert quiet[0]["false_alarms_per_1k"] <= 0.5  # one run a week at 5 minutes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "lead_in", "mode", "least"),
    [("all", "none", "whole", 0.70), ("hour", "P1D", "whole", 0.62), ("hour", "P1D", "causal", 0.40)],
)
def test_quality_on_labelled_series_has_not_fallen(labelled, query, lead_in, mode, least):
    rows = quality.run(labelled, Protocol("baseline", query, lead_in, mode, stretch=STRETCH))
    kpi = [row for row in rows if row["family"] == "KPI"]
    assert np.mean([row["vus_pr"] for row in kpi]) > least
    if mode == "whole":
        assert np.mean([row["event_f1"] for row in kpi]) > 0.75
    assert np.mean([row["false_alarms_per_1k"] for row in kpi]) < 0.5


def test_detector_without_a_model_is_better_than_the_reference(labelled):
    kpi = [item for item in labelled if item.family == "KPI"]
    ours, theirs = (quality.run(kpi, Protocol(name, "day", stretch=STRETCH)) for name in ("baseline", "reference"))
    for figure in ("event_f1", "event_recall"):
        assert np.mean([row[figure] for row in ours]) > np.mean([row[figure] for row in theirs])
