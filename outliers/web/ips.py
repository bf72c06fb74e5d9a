"""POST /api/v1/ip_identifier: which addresses are behind anomalies; must not know how that is worked out."""

from __future__ import annotations

from typing import Any

import numpy as np

from outliers.errors import InvalidRequest
from outliers.infer.contributors import contributors
from outliers.times import instants_ms

ROUTE = "/api/v1/ip_identifier"


def identify(payload: Any, most: int) -> dict[str, Any]:
    """Answer {"ips": [{"caused_by": [address, …]}, …]}, one entry an outlier, in their order.

    payload: {"outliers": [{"timestamp", …}], "all_ips_data": {address: [{"timestamp", "result": {"bytes"}}]}}.
    An outlier at a time of which there is no row is caused by nobody. Raises InvalidRequest, also where there are more
    than `most` addresses × times.
    """
    outliers, by_address = _shape(payload)
    texts = [text for rows in by_address.values() for text, _ in rows]
    try:
        asked = instants_ms(outliers).tolist() if outliers else []
        times = instants_ms(texts).tolist() if texts else []
    except ValueError as error:
        raise InvalidRequest(f"a timestamp cannot be read: {error}") from error
    column = {at: position for position, at in enumerate(sorted(set(times)))}
    if len(by_address) * len(column) > most:
        raise InvalidRequest(f"{len(by_address)} addresses at {len(column)} times are more than {most} values")
    values = np.zeros((len(by_address), len(column)))
    remaining = iter(times)
    for row, listed in enumerate(by_address.values()):
        for _, amount in listed:
            values[row, column[next(remaining)]] = amount
    known = [at for at in dict.fromkeys(asked) if at in column]
    named = dict(zip(known, contributors(values, [column[at] for at in known])))
    addresses = list(by_address)
    return {"ips": [{"caused_by": [addresses[row] for row in named.get(at, [])]} for at in asked]}


def _shape(payload: Any) -> tuple[list[str], dict[str, list[tuple[str, float]]]]:
    """Read the payload's parts: times of the outliers; (time, bytes) by address."""
    if not isinstance(payload, dict):
        raise InvalidRequest("the payload is not an object with outliers and all_ips_data")
    outliers, data = payload.get("outliers"), payload.get("all_ips_data")
    if not isinstance(outliers, list) or not isinstance(data, dict):
        raise InvalidRequest("the payload needs a list of outliers and an object all_ips_data")
    by_address = {}
    for address, rows in data.items():
        if not isinstance(rows, list):
            raise InvalidRequest(f"the data of {address} is not a list of rows")
        by_address[address] = [(_time(row, address), _amount(row)) for row in rows]
    return [_time(outlier, "the outliers") for outlier in outliers], by_address


def _time(row: Any, of: str) -> str:
    text = row.get("timestamp") if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise InvalidRequest(f"a row of {of} has no timestamp")
    return text


def _amount(row: dict[str, Any]) -> float:
    result = row.get("result")
    amount = result.get("bytes") if isinstance(result, dict) else None
    number = isinstance(amount, (int, float)) and not isinstance(amount, bool) and np.isfinite(float(amount))
    return float(amount) if number and amount is not None else 0.0
