"""What callers send, in every form that the contract names."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outliers.errors import InvalidRequest
from outliers.web.payload import DEEPEST, FORM, JSON, base64_bytes, from_fields, read_body

# Its base64 holds '+', '/' and padding.
QUERY = {"queryType": "timeseries", "dataSource": "rb_flow>>>???~~~", "x": "ûïý¿!"}
TEXT = base64.b64encode(json.dumps(QUERY, ensure_ascii=False).encode()).decode()


def form(**fields: str) -> bytes:
    return urlencode(fields).encode()


def test_the_example_holds_all_that_is_special():
    assert "+" in TEXT and "/" in TEXT and TEXT.endswith("=")


@pytest.mark.parametrize(
    "sent",
    [
        quote(TEXT, safe=""),  # escaped as it should be
        quote(TEXT, safe="").replace("%2B", "%2b").replace("%2F", "%2f"),
        TEXT,  # an unescaped form: '+' means a space there
        TEXT.replace("+", "%20"),  # escaped after it had become a space
        TEXT.rstrip("="),  # no padding
        TEXT.translate(str.maketrans("+/", "-_")),  # URL-safe alphabet
        TEXT.translate(str.maketrans("+/", "-_")).rstrip("="),
        quote("\r\n".join(TEXT[i : i + 19] for i in range(0, len(TEXT), 19)), safe=""),  # lines, as MIME has them
        quote(TEXT + "\n", safe=""),
    ],
)
def test_query_in_every_form_of_base64(sent: str):
    assert read_body(b"query=" + sent.encode(), FORM).query == QUERY


def test_json_body_takes_objects_and_base64_alike():
    rows = [{"timestamp": "2026-01-01T00:00:00Z", "result": {"bytes": 1}}]
    plain = read_body(json.dumps({"query": QUERY, "data": rows, "k": 2}).encode(), JSON)
    encoded = base64.b64encode(json.dumps(rows).encode()).decode()
    text = read_body(json.dumps({"query": TEXT, "data": encoded, "k": "2"}).encode(), JSON)
    assert plain == text and plain.query == QUERY and plain.data == rows and plain.k == 2.0


@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_base64_of_anything_comes_back(raw: bytes, safe: bool, padded: bool):
    text = (base64.urlsafe_b64encode if safe else base64.b64encode)(raw).decode()
    assert base64_bytes(text if padded else text.rstrip("=")) == raw


@given(st.binary(max_size=200))
def test_any_form_body_is_read_or_refused(body: bytes):
    for mimetype in (FORM, JSON):
        try:
            request = read_body(body, mimetype)
        except InvalidRequest:
            continue
        assert request.query is not None or request.data is not None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "neither a query nor data"),
        ({"query": ""}, "neither a query nor data"),
        (QUERY, 'bare Druid query: send it as {"query": …}'),
        ({"query": "***"}, "'query' is not base64"),
        ({"query": json.dumps(QUERY)}, "looks like JSON"),
        ({"query": "aaaaa"}, "cut off"),
        ({"query": base64.b64encode(b"{nope").decode()}, "'query' is not JSON"),
        ({"query": base64.b64encode(b"[]").decode()}, "'query' must be an object, not a list"),
        ({"data": base64.b64encode(b"{}").decode()}, "'data' must be a list of rows"),
        ({"query": TEXT, "k": "0"}, "'k' must be a number above 0"),
        ({"query": TEXT, "k": "-1"}, "'k' must be a number above 0"),
        ({"query": TEXT, "k": "nan"}, "'k' must be a number above 0"),
        ({"query": TEXT, "k": "1e999"}, "'k' must be a number above 0"),
        ({"query": TEXT, "k": "three"}, "'k' must be a number above 0"),
        ({"query": TEXT, "k": "1e308"}, "from 1e-06 to 1e\\+06"),
        ({"query": TEXT, "k": "1e-320"}, "from 1e-06 to 1e\\+06"),
        ({"query": TEXT, "mode": "live"}, "'mode' must be one of whole and causal"),
        ({"query": TEXT, "judge_from": "2026-01-01T00:00:00Z"}, "goes with 'data'"),
    ],
)
def test_malformed_fields_are_named(fields: dict, said: str):
    with pytest.raises(InvalidRequest, match=said):
        read_body(form(**fields), FORM)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"[1]", "must be a JSON object"),
        (b'{"query": 5}', "'query' must be an object, not a number"),
        (b'{"query": {}, "model": 5}', "'model' must be text"),
        (b'{"query": {}, "k": true}', "'k' must be a number"),
        (b'{"query": {}, "k": [1]}', "'k' must be a number"),
        (b'{"data": [NaN], "model": "\\ud800"}', "not JSON"),
        (b'{"data": [{"timestamp": "2026-01-01", "result": {"\\ud800": NaN}}]}', "not JSON"),
    ],
)
def test_malformed_json_is_named(body: bytes, said: str):
    with pytest.raises(InvalidRequest, match=said):
        read_body(body, JSON)


def test_empty_fields_mean_that_they_were_not_sent():
    request = read_body(form(query=TEXT, model="", metric=" ", k="", mode="", lead_in=""), FORM)
    assert (request.model, request.metric, request.k, request.mode, request.lead_in) == (None,) * 5


def test_a_field_given_twice_is_refused():
    with pytest.raises(InvalidRequest, match="'metric' is given twice"):
        read_body(form(query=TEXT) + b"&metric=a&metric=b", FORM)


def test_unknown_fields_are_told():
    assert read_body(form(query=TEXT, metirc="bytes"), FORM).ignored == ("metirc",)


def test_a_query_nested_too_deep_is_refused_before_anything_walks_it():
    query: dict = {}
    for _ in range(DEEPEST + 1):
        query = {"filter": query}
    with pytest.raises(InvalidRequest, match="nested deeper"):
        from_fields({"query": query})
    with pytest.raises(InvalidRequest, match="JSON"):
        read_body(b'{"query": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", JSON)


def test_nan_as_python_writes_it_is_a_missing_value_and_no_error():
    body = json.dumps({"data": [{"timestamp": "2026-01-01T00:00:00Z", "result": {"bytes": float("nan")}}]})
    assert read_body(body.encode(), JSON).data is not None
