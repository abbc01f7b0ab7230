"""Pieces of a page, read back with a parser: what came in as text comes out as text."""

import json
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.visualization import markup

EVIL = "<script>alert('1')</script>&\"\x00"


class Text(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.seen, self.tags = "", []
        self.feed(source)
        self.close()

    def handle_data(self, data: str) -> None:
        self.seen += data

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=100))
def test_escaped_text_is_read_as_it_was(text: str) -> None:
    found = Text(markup.escape(text))
    assert (found.seen, found.tags) == (text, [])


def test_what_a_page_may_not_hold_is_replaced() -> None:
    assert Text(markup.escape("a\x00b\ud800c")).seen == "a\ufffdb\ufffdc"


def test_very_long_text_is_cut_and_says_so() -> None:
    assert markup.escape("x" * 5000) == "x" * 2000 + " ... (5,000 characters)"


@pytest.mark.parametrize(
    ("value", "text"),
    [([1, 2], "1, 2"), ([], "[]"), ([[1], 2], "[[1], 2]"), ("a", "a"), (None, "null"), ({"a": 1}, '{"a": 1}')],
)
def test_a_plain_list_is_shown_without_brackets(value: object, text: str) -> None:
    assert Text(markup.listed(value)).seen == text


def test_numbers_are_short_for_the_eye_and_whole_for_programs() -> None:
    assert markup.shown_value(1 / 3) == f'<data value="{1 / 3!r}">0.3333</data>'
    assert markup.amount(1234567) == '<data value="1234567">1,234,567</data>'
    assert markup.pixels(64) == "64 &times; 64"
    assert [markup.pixels(value) for value in (None, "64", float("nan"))] == [""] * 3
    assert [markup.shown_value(value) for value in (None, "x")] == ["&ndash;", "x"]


@pytest.mark.parametrize("value", [EVIL, [EVIL], {EVIL: EVIL}, {"a": {EVIL: [EVIL]}}])
def test_no_piece_lets_text_become_markup(value: object) -> None:
    made = [
        markup.readable(EVIL),
        markup.listed(value),
        markup.shown_value(value),
        markup.entry(EVIL, ""),
        markup.settings_tree(value if isinstance(value, dict) else {EVIL: value}),
    ]
    assert not any("script" in Text(piece).tags for piece in made)
    assert all("\x00" not in piece for piece in made)


def test_settings_deeper_than_six_levels_are_shown_as_json() -> None:
    deep: object = "end"
    for level in range(8):
        deep = {f"level {level}": deep}
    page = markup.settings_tree(deep)  # type: ignore[arg-type]
    assert page.count("<details") == 5
    assert json.dumps({"level 1": {"level 0": "end"}}) in Text(page).seen


def test_a_table_has_its_head_and_rows() -> None:
    page = markup.table("wide", ["A", "B"], [markup.row("one", "1"), markup.row("two", "2")])
    assert Text(page).tags == ["table", "thead", "tr", "th", "th", "tbody", "tr", "th", "td", "tr", "th", "td"]


def test_a_section_can_be_linked_to_and_no_note_is_nothing() -> None:
    assert markup.section("Last losses", "x").startswith('<section id="last-losses">')
    assert markup.note("") == ""
    assert Text(markup.note("seen")).tags == ["p"]
    assert 'class="scroll tall"' in markup.scroll("x", "y", tall=True)
