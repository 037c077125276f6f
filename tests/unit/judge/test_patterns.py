# SPDX-License-Identifier: GPL-2.0-or-later
"""Patterns for the names of livepatches: what they match, what is refused, and how long they may take."""

from __future__ import annotations

import time

import pytest

from klpd.judge.patterns import EVERYTHING, LONGEST, Pattern
from klpd.judge.rules import Match


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("lp[-]x", "lp_x", True),
        ("lp[a-]x", "lp_x", True),
        ("lp[-a]x", "lp_x", True),
        ("lp[_]x", "lp-x", True),
        ("lp[!-]x", "lp_x", False),
        ("lp[!_]x", "lp-x", False),
        ("lp[!-]x", "lpax", True),
        ("lp_x", "lp-x", True),
        ("lp-x", "lp-x", True),
        ("lp?x", "lp-x", True),
        ("lp[a-z]x", "lp_x", False),
        ("lp[a-z]x", "lp-x", False),
        ("lp[a-z-9]x", "lp-x", True),
        ("lp[a-z-9]x", "lp9x", True),
        ("lp[a-z-9]x", "lp5x", False),
        ("lp[+--]x", "lp_x", True),
        ("lp[--9]x", "lp5x", True),
        ("lp[A-a]x", "lp-x", True),
        ("lp[]]x", "lp]x", True),
        ("lp[!]]x", "lp]x", False),
        ("lp[[]x", "lp[x", True),
        ("lp[a]x", "lp[a]x", False),
        ("lp[*]", "lp*", True),
        ("lp[*]", "lpx", False),
        ("lp[a!]", "lp!", True),
        ("*", "", True),
        ("", "", True),
        ("", "a", False),
        ("**a**", "bab", True),
        ("a*b*c", "a_b_b_c", True),
        ("a*b*c", "a_c_b", False),
    ],
)
def test_a_pattern_is_for_whole_names_in_which_minus_is_underscore(pattern: str, name: str, expected: bool) -> None:
    assert Pattern.parse(pattern).matches(name) is expected


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("lp_[[:digit:]]*", r'there is nothing like "\[:...:\]" in patterns'),
        ("lp_[a[:digit:]]", r'there is nothing like "\[:...:\]"'),
        ("lp_[![:digit:]]", r'there is nothing like "\[:...:\]"'),
        ("lp_[[=a=]]", r'there is nothing like "\[=...=\]"'),
        ("lp_[[.hyphen.]]", r'there is nothing like "\[....\.\]"'),
        ("lp_[^0-9]", r'write "\[!" for all but these'),
        ("lp_[0-9", 'without its "]"'),
        ("lp_[", 'without its "]"'),
        ("lp_[]", 'without its "]"'),
        ("lp_[!]", 'without its "]"'),
        ("lp_]", 'without a "\\["'),
        ("lp_[z-a]", 'nothing in the range "z-a"'),
        ("lp\\_x", "there is no "),
        ("lp[\\]]x", "there is no "),
        ("a" * (LONGEST + 1), f"at most {LONGEST} characters, and this one {LONGEST + 1}"),
        ("[" * 10_000, "at most"),
    ],
)
def test_what_the_language_does_not_have_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Pattern.parse(pattern)
    with pytest.raises(ValueError, match=why):
        Match(name=pattern)


@pytest.mark.parametrize("text", ["*a" * 128, "*" * LONGEST, "?*" * 128, "[!b]*" * 51, "*?a?b" * 51, "[a-z]" * 51])
def test_no_pattern_takes_long(text: str) -> None:
    pattern, other = Pattern.parse(text), Pattern.parse("*a*a??*b?" * 20)
    began = time.process_time()
    for _ in range(20):
        pattern.matches("a" * 54 + "b")
    assert time.process_time() - began < 1
    began = time.process_time()
    pattern.covers(other)
    other.covers(pattern)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("*", "lp_1", True),
        ("*", "*", True),
        ("lp_*", "lp-1", True),
        ("lp-*", "lp_[0-9]?", True),
        ("lp_*", "lp*", False),
        ("lp_?", "lp_[!a]", True),
        ("lp_[!a]", "lp_?", False),
        ("lp_[0-9a-f]", "lp_[2-4e]", True),
        ("lp_[0-9a-f]", "lp_[2-4g]", False),
        ("*a*", "*ba", True),
        ("*a", "a*", False),
        ("a*b", "a*c*b", True),
        ("?*", "*?", True),
        ("?*", "*", False),
        ("lp_1", "lp_1", True),
        ("lp_1", "lp_2", False),
        ("[-]", "_", True),
        ("lp_[a-z]", "lp-_", False),
    ],
)
def test_a_pattern_covers_another_whose_names_all_fit_it(wide: str, narrow: str, expected: bool) -> None:
    assert Pattern.parse(wide).covers(Pattern.parse(narrow)) is expected
    assert EVERYTHING.covers(Pattern.parse(narrow))
