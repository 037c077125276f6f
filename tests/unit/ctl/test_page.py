# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines and tables on a page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from klpd.ctl.page import Page, Span, Tone, line, page_for, wants_colour
from klpd.ctl.table import table
from tests.unit.ctl.examples import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def test_a_span_is_coloured_only_where_colours_are_wanted() -> None:
    spans = line("klp_v1: ", Span("vetoed", Tone.BAD))
    assert Page(colour=True).render(spans) == "klp_v1: \x1b[1;31mvetoed\x1b[0m"
    assert Page().render(spans) == "klp_v1: vetoed"


def test_no_span_brings_control_characters_of_its_own() -> None:
    assert Page(colour=True).render(line(Span("\x1b[2J", Tone.GOOD))) == "\x1b[32m\\x1b[2J\x1b[0m"


@pytest.mark.parametrize(
    ("environment", "terminal", "colour"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({"TERM": "xterm", "SYSTEMD_COLORS": "0"}, True, False),
        ({"SYSTEMD_COLORS": "1"}, False, True),
        ({"SYSTEMD_COLORS": "16", "NO_COLOR": "1"}, False, True),
    ],
)
def test_who_wants_colours(environment: Mapping[str, str], terminal: bool, colour: bool) -> None:
    assert wants_colour(environment, terminal=terminal) is colour


def test_what_is_no_terminal_has_no_width() -> None:
    assert page_for(io.StringIO(), {"TERM": "xterm"}) == Page(width=None, colour=False)


def test_a_paragraph_is_indented_after_its_first_line() -> None:
    page = Page(width=26)
    assert text_of(page.paragraph("one two three four five six", head=line("rule: "), indent=6), page) == (
        "rule: one two three four\n      five six"
    )


def test_a_list_is_cut_only_on_a_page_with_a_width() -> None:
    items = [f"item{number}" for number in range(40)]
    wide = text_of(Page().listing(items, lines=1, title="all: ", head=line("  ")))
    assert wide == "  all: " + ", ".join(items)
    page = Page(width=50)
    assert text_of(page.listing(items, lines=2, title="all: ", head=line("  "), indent=4), page) == (
        "  all: item0, item1, item2, item3, item4, item5,\n    item6, item7, ... and 32 more; --json has all"
    )


ROWS: list[list[Span | str]] = [["0x1", "console loglevel"], ["0x1001", Span("-", Tone.WARN)]]


def test_columns_are_as_wide_as_what_they_hold() -> None:
    assert text_of(table(("id", "name"), ROWS, Page())) == ("id      name\n0x1     console loglevel\n0x1001  -")


def test_on_a_narrow_page_cells_are_wrapped_but_no_word_is_broken() -> None:
    assert text_of(table(("id", "name"), ROWS, Page(width=18))) == (
        "id      name\n0x1     console\n        loglevel\n0x1001  -"
    )
    assert "loglevel" in text_of(table(("id", "name"), ROWS, Page(width=5)))


def test_escaped_characters_count_as_what_they_become() -> None:
    assert text_of(table(("a", "b"), [["\n", "x"], ["12", "y"]], Page())) == ("a   b\n\\n  x\n12  y")
