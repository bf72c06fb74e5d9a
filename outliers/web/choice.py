"""Which model answers a question; must not know how a model works or what it will say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from outliers.druid.query import canonical_filter, conflicts, data_source_of, sensor_of
from outliers.errors import InvalidRequest, ModelError, NotFound, Unservable
from outliers.infer.cache import Models
from outliers.web.payload import base64_bytes


@dataclass(frozen=True)
class Choice:
    """The model that is to answer, None = the detector without one; reason: why it is not what was expected."""

    model: Optional[Any] = None
    reason: Optional[str] = None


def choose(named: Optional[str], query: Optional[Mapping[str, Any]], models: Models, must_exist: bool) -> Choice:
    """Choose by CONTRACT §2: the named one, the sensor's own, the one of the same filter, none.

    named: a name, plain or in base64. must_exist: Unservable for a named model that is not served.
    """
    if named is not None:
        name = _known(named, models)
        if name is None:
            if must_exist:
                raise Unservable(f"There is no model named {_shown(named)}.")
            return Choice(None, f"there is no model named {_shown(named)}")
    elif query is not None:
        name = _for_query(query, models)
        if name is None:
            return Choice()
    else:
        return Choice()
    try:
        return Choice(models.get(name))
    except (ModelError, NotFound) as error:
        return Choice(None, f"the model {name!r} cannot be used: {error}")


def unsuited(model: Any, query: Optional[Mapping[str, Any]], granularity: Optional[str]) -> Optional[str]:
    """Say why a model cannot read a query's rows, as far as that shows before they are there; None = it can."""
    if granularity is not None and granularity not in model.meta.granularities:
        trained = ", ".join(model.meta.granularities)
        return f"the model {model.meta.name!r} was not trained on {granularity} (it knows {trained})"
    if query is not None:
        other = conflicts(query, model.meta.aggregations)
        if other:
            return f"the query means something else by {', '.join(other)} than the model {model.meta.name!r}"
    return None


def _known(named: str, models: Models) -> Optional[str]:
    if models.knows(named):
        return named
    decoded = _decoded(named)
    return decoded if decoded is not None and models.knows(decoded) else None


def _shown(named: str) -> str:
    return repr(_decoded(named) or named)


def _decoded(named: str) -> Optional[str]:
    try:
        text = base64_bytes(named).decode("utf-8")
    except (InvalidRequest, UnicodeDecodeError):
        return None
    return text if text and text.isprintable() else None


def _for_query(query: Mapping[str, Any], models: Models) -> Optional[str]:
    source = data_source_of(query) if query.get("dataSource") else None
    if source is None:
        return None
    canonical = canonical_filter(query.get("filter"))
    sensor = sensor_of(query)
    if sensor is not None and models.serves(sensor, source, canonical):
        return sensor
    if query.get("virtualColumns"):
        return None  # the filter may be about something computed
    return models.with_filter(source, canonical)
