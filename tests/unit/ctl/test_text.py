# SPDX-License-Identifier: GPL-2.0-or-later
"""Text for a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klpd.ctl.text import cut, escape, width, wrap, wrap_list


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("klp_v1", "klp_v1"),
        ("konsolė", "konsolė"),
        ("two words", "two words"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\x9b2J", r"\x9b2J"),
        ("back\x08space", r"back\x08space"),
        ("right\u202eto left", r"right\u202eto left"),
        ("not utf-8 \udcff", r"not utf-8 \udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert escape(text) == shown


@given(st.text())
def test_escaped_text_prints_and_stays_as_it_is_when_escaped_again(text: str) -> None:
    assert escape(text).isprintable()
    assert escape(escape(text)) == escape(text)


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("konsolė", 7), ("日本", 4), ("e\u0301", 1), ("", 0)])
def test_width_counts_columns_of_a_terminal(text: str, columns: int) -> None:
    assert width(text) == columns


@given(st.text(alphabet="ab cd", max_size=60), st.integers(min_value=1, max_value=30))
def test_wrapped_lines_hold_all_words_in_order_and_fit_unless_one_word_does_not(text: str, columns: int) -> None:
    lines = wrap(text, columns)
    assert " ".join(lines).split() == text.split()
    assert all(width(line) <= columns or " " not in line for line in lines)


def test_nothing_is_wrapped_where_there_is_no_width() -> None:
    assert wrap("a b " * 100, None) == ["a b " * 100]


@given(
    st.lists(st.text(alphabet="abcdef", min_size=1, max_size=12), min_size=1, max_size=60),
    st.integers(min_value=50, max_value=90),
    st.integers(min_value=1, max_value=6),
)
def test_a_cut_list_fits_and_counts_what_it_leaves_out(items: list[str], columns: int, lines: int) -> None:
    pieces = wrap_list(items, columns, lines)
    assert len(pieces) <= lines
    shown, _, left = " ".join(pieces).partition(", ... and ")
    listed = shown.split(", ")
    assert listed == items[: len(listed)]
    assert len(items) - len(listed) == (int(left.split()[0]) if left else 0)


@given(st.text(alphabet="ab日", max_size=60), st.integers(min_value=0, max_value=30))
def test_cut_text_fits(text: str, columns: int) -> None:
    assert width(cut(text, columns)) <= columns


def test_cut_text_shows_that_something_is_missing() -> None:
    assert cut("loading klp_v2", 10) == "loading..."
    assert cut("loading", 10) == "loading"
