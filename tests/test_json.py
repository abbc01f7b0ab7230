"""JSON is read as it is written, and what is no JSON is a ValueError, whatever it is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganblocks._json import read_json

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=10,
)


@given(value=VALUES)
def test_plain_values_come_back(value: Any) -> None:
    text = json.dumps(value)
    assert read_json(text) == read_json(text.encode("utf-16")) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NaN", "NaN is not JSON"),
        ('{"a": [-Infinity]}', "-Infinity is not JSON"),
        ("[1e999]", "1e999 is beyond"),
        ("9" * 5000, "is beyond all"),
        ("-" + "9" * 400, "is beyond all"),
        ('{"a": 1, "a": 1}', "one key twice"),
        ('[{"b": {"a": 1, "c": 2, "a": 3}}]', "one key twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("", "Expecting value"),
        ("{'a': 1}", "property name"),
        ("[1] 2", "Extra data"),
        (b"\xff\xff{", "Expecting|decode"),
        ("!!python/object/apply:os.system [ls]", "Expecting value"),
    ],
)
def test_what_is_no_json_is_a_value_error(text: str | bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_json(text)


@given(text=st.one_of(st.text(), st.binary(), st.text('{}[]",:0123456789eE+-.nulltrefas \\u')))
def test_any_text_is_read_or_a_value_error(text: str | bytes) -> None:
    try:
        value = read_json(text)
    except ValueError:
        return
    assert json.loads(json.dumps(value, allow_nan=False)) == value
