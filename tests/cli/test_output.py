"""What is printed: one line a thing, columns that line up, and nothing that a terminal would obey."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.cli.output import printable, readable_size, say, show, table


@given(st.text())
def test_any_text_becomes_one_line_without_commands(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown == printable(shown)
    assert shown == text or not text.isprintable()


def test_control_characters_are_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    say("1.0\x1b[2J\nnext\tline \u202e")
    assert capsys.readouterr().out == "1.0\\x1b[2J next line \\u202e\n"


def test_columns_line_up_and_the_last_one_is_not_padded() -> None:
    assert table([("a", "bb", "c"), ("aaa", "b", "cc\n")]) == "a    bb  c\naaa  b   cc "
    assert table([("alone",)]) == "alone"


def test_people_get_the_table_and_programs_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    show({"x": None}, [("x", "?")], as_json=False)
    assert capsys.readouterr().out == "x  ?\n"
    show({"x": None}, [("x", "?")], as_json=True)
    assert json.loads(capsys.readouterr().out) == {"x": None}


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (23_456_789, "23.5 MB"),
        (24_000_000_000, "24 GB"),
        (5 * 10**15, "5e+03 TB"),
    ],
)
def test_sizes_have_three_digits_in_decimal_units(count: int, text: str) -> None:
    assert readable_size(count) == text
