"""The training job of one name, step by step, from Druid to the store; it must not know Redis, queues or schedules.

Clock -> what serves -> past -> fit, calibrate, gate -> refit -> export -> parity -> publish -> backup -> prune.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import torch

from export import parity
from export.onnx_file import export
from outliers.config import Config
from outliers.druid.client import Druid
from outliers.druid.query import canonical_filter, sensor_filter
from outliers.errors import (
    Conflict,
    DruidError,
    InvalidRequest,
    ModelError,
    NotFound,
    StoreError,
    TooLittleData,
    TrainingError,
)
from outliers.infer.metadata import ModelMeta
from outliers.infer.model import Model
from outliers.series import Series
from outliers.store import Latest, Store, key_of, new_version, open_store
from outliers.train.build import Built, build
from outliers.train.fetch import Past, Subject, fetch, new_holes, points, said
from outliers.train.fit import FitSettings, read_weights
from outliers.train.outcome import Outcome, declined
from outliers.train.silence import rarely_empty

logger = logging.getLogger(__name__)

Tell = Callable[[Mapping[str, Any]], None]
PASSED = "passed every check; a dry run publishes nothing"  # reason of a dry run that went well
AHEAD_S = 300  # a newest event this far ahead of the clock is said


class HoleInTheData(DruidError):
    """Druid answers for less time than it held when the name was last trained; it may have it again soon."""


def train(
    name: str,
    config: Config,
    *,
    store: Store | None = None,
    progress: Tell = lambda facts: None,
    dry_run: bool = False,
    job_id: str = "",
    last_try: bool = True,
    before_publish: Callable[[], None] = lambda: None,
) -> Outcome:
    """Train a model of `name` and publish it, unless it is refused; the outcome says which and why.

    store: the configured one, if it is open already.
    progress: called often, with facts such as {"step": "fit", "part": 0.4}; what it raises ends the job.
    job_id: of the queue's job; a version that an earlier try of the same job published is not published twice.
    last_try: whether a new hole in Druid's data ends the job instead of raising DruidError, to be tried again.
    before_publish: called right before the store is changed; what it raises keeps it from being changed.
    Raises DruidError, StoreUnavailable and what nobody foresaw; every refusal is an outcome.
    """
    torch.set_num_threads(1)  # tensors this small are slower on two, and hundreds of times so on a busy machine
    druid = Druid(config.druid)
    try:
        job = _Job(name, config, store or open_store(config), druid, progress)
        return job.run(dry_run, job_id, last_try, before_publish)
    finally:
        druid.close()


def subject_of(name: str, config: Config, store: Store) -> Subject:
    """Return what `name` is a model of: a model by name with its filter (or everything), else the sensor."""
    druid_filter = store.filter(name)
    if druid_filter is not None or name in config.outliers.model_names:
        return Subject(name, canonical_filter(druid_filter))
    return Subject(name, sensor_filter(name))


class _Job:
    """One run; `figures`, `seconds` and `notes` grow while it goes on."""

    def __init__(self, name: str, config: Config, store: Store, druid: Druid, progress: Tell) -> None:
        self.name = name
        self.config = config
        self.store = store
        self.druid = druid
        self.tell = progress
        self.subject = Subject(name, None)
        self.served: Latest | None = None
        self.serving: Model | None = None
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []
        self.figures: dict[str, Any] = {"seconds": self.seconds, "notes": self.notes}

    def run(self, dry_run: bool, job_id: str, last_try: bool, before_publish: Callable[[], None]) -> Outcome:
        with self.timed("store"):
            self._look_at_store()
        if self.served and job_id and self.served.version.endswith(_mark(job_id)):
            logger.info("an earlier try of this job published %s", self.served.version)
            return Outcome("published", self.served.version, figures=self.figures)
        if not dry_run and self.store.pinned(self.name):
            return self.declined("the name is pinned")
        try:
            past = self._past()
            surprise = new_holes(past, self._known_holes())
            if surprise and not last_try:
                raise HoleInTheData(f"Druid holds no data for {said(surprise)}, which it held before")
            if surprise and self.served:
                return self.declined(f"Druid holds no data for {said(surprise)}")
            if past.uncovered:
                self._note(f"Druid holds no data for {said(past.uncovered)}")
            onnx, weights, meta = self._model(past, _version(job_id))
        except (TooLittleData, TrainingError) as error:
            return self.declined(str(error))
        except HoleInTheData as error:
            if not last_try:
                raise
            return self.declined(str(error))
        if dry_run:
            return self.declined(PASSED)
        return self._publish(meta.version, onnx, weights, before_publish)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        self.tell({"step": step})
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = round(self.seconds.get(step, 0.0) + time.perf_counter() - began_s, 4)

    def declined(self, reason: str) -> Outcome:
        return declined(self.served.version if self.served else None, reason, self.figures)

    def _note(self, sentence: str) -> None:
        self.notes.append(sentence)
        logger.info("%s", sentence)

    # --- what is there ---

    def _look_at_store(self) -> None:
        """Learn what the name is a model of, and what serves it."""
        self.subject = subject_of(self.name, self.config, self.store)
        try:
            data, self.served = self.store.get_latest(self.name)
            self.serving = Model.load(data)
        except NotFound:
            return
        except ModelError as error:  # it serves nobody either
            self._note(f"what is served is no model: {error}")
            self.served = self.served or self.store.head(self.name)

    def _past(self) -> Past:
        """Fetch up to the newest event of any sensor, but never past this node's clock."""
        with self.timed("bounds"):
            everything = self.druid.bounds(self.subject.data_source)
            own = self.druid.bounds(self.subject.data_source, self.subject.filter) if everything else None
        self._require_no_less(everything)
        if everything is None or own is None:
            raise TooLittleData(f"{self.subject.data_source} holds no event that matches the filter of {self.name!r}")
        newest_s, now_s = everything[1], int(time.time())
        if newest_s > now_s + AHEAD_S:
            self._note(f"the newest event is {newest_s - now_s} s ahead of the clock, which counts")
        with self.timed("fetch"):
            past = fetch(
                self.druid,
                self.subject,
                self.config.training,
                newest_s=min(newest_s, now_s),
                first_event_s=own[0],
                settle_s=self.config.druid.settle_s,
                empty=self.config.detection.empty,
                tell=self.tell,
            )
        self.seconds.update({step: round(s, 4) for step, s in past.seconds.items()})
        self.figures["points"] = points(past.series)
        return past

    def _require_no_less(self, everything: tuple[int, int] | None) -> None:
        """Raise HoleInTheData where Druid's newest event is older than what is served was trained on.

        A node that died takes its segments out of the clock too: all data would seem to end sooner, without a hole.
        """
        known_s = self.serving.meta.trained_to if self.serving else 0
        if everything is None and self.serving:
            raise HoleInTheData(f"Druid holds no data for {said([(self.serving.meta.trained_from, known_s)])}")
        if everything is not None and everything[1] < known_s:
            raise HoleInTheData(f"Druid holds no data for {said([(everything[1], known_s)])}")

    def _known_holes(self) -> list[list[int]]:
        """Return the spans that Druid did not hold either when what is served was trained."""
        found = self.serving.meta.validation.get("uncovered", []) if self.serving else []
        return [list(span) for span in found]

    def _start_from(self, granularities: Mapping[str, int]) -> Any:
        """Return the served version's weights if the new model has their shape, else None: it starts from scratch."""
        if self.served is None:
            return None
        try:
            data = self.store.get_weights(self.name, self.served.version)
        except (NotFound, ModelError, InvalidRequest):
            return None
        return read_weights(data, self.subject.metrics, granularities)

    # --- the model ---

    def _model(self, past: Past, version: str) -> tuple[bytes, bytes, ModelMeta]:
        """Fit, judge and write a model. Raises TooLittleData, TrainingError with the gate's reason."""
        settings = FitSettings(epochs=self.config.outliers.epochs, batch_size=self.config.outliers.batch_size)
        with self.timed("fit"):
            start_from = self._start_from({text: s.step_s for text, s in past.series.items()})
            built = build(past.series, settings, serving=self.serving, start_from=start_from, progress=self._fitting)
        self._tell_of(built)
        if not built.gate.passed:
            raise TrainingError(f"the gate refuses it: {'; '.join(built.gate.reasons)}")
        fitted = built.fitted
        meta = self._meta(past, built, version)
        with self.timed("export"):
            onnx = export(fitted, meta)
        with self.timed("parity"):
            newest = [_newest_part(past.series[text]) for text in fitted.granularities]
            try:
                self.figures["parity"] = parity.check(fitted, onnx, newest)
            except ModelError as exc:
                raise TrainingError(f"the exported file cannot be run: {exc}") from exc
        return onnx, fitted.weights_bytes(), meta

    def _tell_of(self, built: Built) -> None:
        """Note the figures of the fit; losses are of scaled values, thresholds the lines that serve by default."""
        went, budget = built.fitted.training, self.config.detection.alarms_per_day
        self.figures.update(
            epochs=self.config.outliers.epochs,
            steps=went.steps,
            train_loss=went.train_loss,
            validation_loss=went.validation_loss,
            threshold={text: modes["whole"].k(budget) for text, modes in built.lines.items()},
        )
        self.notes.extend(f"{text} is left out: {why}" for text, why in built.fitted.left_out.items())

    def _fitting(self, part: float, text: str) -> None:
        self.tell({"part": round(part, 3), "text": text})

    def _meta(self, past: Past, built: Built, version: str) -> ModelMeta:
        subject, created = self.subject, datetime.now(timezone.utc)
        fitted = built.fitted
        return ModelMeta(
            name=self.name,
            version=version,
            data_source=subject.data_source,
            filter=subject.filter,
            metrics=fitted.metrics,
            granularities=fitted.granularities,
            lines=built.lines,
            aggregations=subject.aggregations,
            trained_from=past.start_s,
            trained_to=past.end_s,
            points=fitted.points,
            rarely_empty=tuple(text for text in fitted.granularities if rarely_empty(past.series[text])),
            validation={"uncovered": [list(span) for span in past.uncovered], **built.validation},
            created_at=created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            parent=self.served.version if self.served else None,
            libraries={name: importlib.metadata.version(name) for name in ("torch", "onnx", "numpy")},
            settings_sha256=_settings_sha256(self.config),
        )

    # --- the end ---

    def _publish(self, version: str, onnx: bytes, weights: bytes, before_publish: Callable[[], None]) -> Outcome:
        """Serve the new version, if what is served is still what it was when the job began."""
        with self.timed("publish"):
            before_publish()
            try:
                new = self.store.publish(self.name, version, onnx, weights, expected=self.served)
            except Conflict as error:
                return self._after_conflict(version, str(error))
        self.figures["bytes"] = len(onnx)
        self._backup(new.version, onnx, weights)
        with self.timed("prune"):
            try:
                self.store.prune(self.name, self.config.training.keep_versions)
            except StoreError as error:  # the new model serves: too many old versions are no reason to fail
                self._note(f"old versions were not removed: {error}")
        return Outcome("published", new.version, figures=self.figures)

    def _after_conflict(self, version: str, reason: str) -> Outcome:
        """Tell a race that was lost from a reply that was: then what serves now is what this job wrote."""
        try:
            serves = self.store.head(self.name).version
        except NotFound:
            serves = ""
        if serves == version:
            return Outcome("published", version, figures=self.figures)
        if self.store.pinned(self.name):
            return declined(serves or None, "the name was pinned meanwhile", self.figures)
        return declined(serves or None, f"lost the race: {reason}", self.figures)

    def _backup(self, version: str, onnx: bytes, weights: bytes) -> None:
        """Keep a copy on this node, as [Outliers] backup_path asks; a full disk here does not undo a publication."""
        if not self.config.outliers.backup_path:
            return
        directory = os.path.join(self.config.outliers.backup_path, key_of(self.name))
        try:
            os.makedirs(directory, exist_ok=True)
            for suffix, data in ((".onnx", onnx), (".pt", weights)):
                path = os.path.join(directory, version + suffix)
                with open(path + ".part", "wb") as file:
                    file.write(data)
                os.replace(path + ".part", path)
        except OSError as error:
            self._note(f"no backup was written under [Outliers] backup_path: {error.strerror}")


def _mark(job_id: str) -> str:
    """Return what the versions of one queued job end in, so that its next try knows what an earlier one published."""
    return hashlib.sha256(job_id.encode()).hexdigest()[:8]


def _version(job_id: str) -> str:
    version = new_version()
    return version[: -len(_mark(job_id))] + _mark(job_id) if job_id else version


def _settings_sha256(config: Config) -> str:
    """Return the digest of all settings that decide what a model learns."""
    learned = {"training": asdict(config.training), "epochs": config.outliers.epochs}
    learned.update(batch_size=config.outliers.batch_size, empty=config.detection.empty)
    return hashlib.sha256(json.dumps(learned, sort_keys=True).encode()).hexdigest()


def _newest_part(series: Series, most: int = 2000) -> Series:
    return Series(series.timestamps[-most:], series.values[-most:], series.metrics, series.granularity, series.step_s)
