# SPDX-License-Identifier: GPL-2.0-or-later
"""Laws of patterns for names: they match as the simplest reading of them does, and cover what they are said to."""

from __future__ import annotations

from itertools import product
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from klpd.judge.patterns import Pattern

ALPHABET: Final = "ab-_."
NAMES: Final = ["".join(each) for length in range(5) for each in product(ALPHABET, repeat=length)]

MEMBERS: Final = st.lists(
    st.one_of(
        st.sampled_from([*"ab_.", "a-b", "--.", "+--"]),
    ),
    min_size=1,
    max_size=3,
)
BRACKETS: Final = st.builds(
    lambda but, first, members, last: f"[{but}{first}{''.join(members)}{last}]",
    st.sampled_from(["", "!"]),
    st.sampled_from(["", "-", "]"]),
    MEMBERS,
    st.sampled_from(["", "-"]),
)
PATTERNS: Final = st.lists(st.one_of(st.sampled_from([*"ab-_.*?"]), BRACKETS), max_size=6).map("".join)


def fits(pattern: str, name: str) -> bool:
    """The language in the fewest words: what comes first in the pattern takes what comes first in the name."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(fits(pattern[1:], name[skipped:]) for skipped in range(len(name) + 1))
    if pattern[0] != "[":
        return bool(name) and (pattern[0] in ("?", *same(name[0]))) and fits(pattern[1:], name[1:])
    start = 2 if pattern[1] == "!" else 1
    end = pattern.index("]", start + 1)
    inside = any(each in members(pattern[start:end]) for each in same(name[0])) if name else False
    return bool(name) and inside is (start == 1) and fits(pattern[end + 1 :], name[1:])


def same(char: str) -> tuple[str, ...]:
    return ("-", "_") if char in "-_" else (char,)


def members(text: str) -> set[str]:
    """All characters that stand in brackets, ranges written out."""
    if len(text) >= 3 and text[1] == "-":
        return {chr(each) for each in range(ord(text[0]), ord(text[2]) + 1)} | members(text[3:])
    return {text[0], *members(text[1:])} if text else set()


@settings(max_examples=150)
@given(PATTERNS)
def test_a_pattern_matches_as_its_simplest_reading_does(text: str) -> None:
    try:
        pattern = Pattern.parse(text)
    except ValueError as error:
        assert "nothing in the range" in str(error)  # noqa: PT017  any other would be wrong
        return
    assert [each for each in NAMES if pattern.matches(each)] == [each for each in NAMES if fits(text, each)]


@settings(max_examples=150)
@given(PATTERNS, PATTERNS)
def test_what_a_pattern_covers_it_matches(wide: str, narrow: str) -> None:
    try:
        covering, covered = Pattern.parse(wide), Pattern.parse(narrow)
    except ValueError:
        return
    lost = [each for each in NAMES if fits(narrow, each) and not fits(wide, each)]
    if covering.covers(covered):
        assert not lost


@given(PATTERNS)
def test_a_pattern_covers_itself_and_is_covered_by_all_names(text: str) -> None:
    try:
        pattern = Pattern.parse(text)
    except ValueError:
        return
    assert pattern.covers(pattern)
    assert Pattern.parse("*").covers(pattern)


@given(st.text(max_size=30), st.text(max_size=10))
def test_any_text_is_a_pattern_or_a_value_error(text: str, name: str) -> None:
    try:
        pattern = Pattern.parse(text)
    except ValueError:
        return
    assert pattern.matches(name) in (True, False)
    assert pattern.covers(pattern)
