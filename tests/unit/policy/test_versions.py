# SPDX-License-Identifier: GPL-2.0-or-later
"""Ranges of state versions."""

from __future__ import annotations

import pytest

from klpd.model import LARGEST_VERSION
from klpd.policy.versions import exactly, parse_versions


@pytest.mark.parametrize(
    ("text", "accepted", "refused"),
    [
        (">=2, <5", [2, 3, 4], [0, 1, 5]),
        ("==3", [3], [2, 4]),
        ("!=3", [2, 4], [3]),
        (" > 1 ,<= 3,!=2 ", [3], [1, 2, 4]),
        ("<1", [0], [1]),
        (f">={LARGEST_VERSION}", [LARGEST_VERSION], [LARGEST_VERSION - 1]),
    ],
)
def test_every_bound_has_to_hold(text: str, accepted: list[int], refused: list[int]) -> None:
    versions = parse_versions(text)
    assert [each in versions for each in accepted + refused] == [True] * len(accepted) + [False] * len(refused)


def test_a_number_is_the_only_version() -> None:
    assert [each in exactly(3) for each in (2, 3, 4)] == [False, True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "bounds such as"),
        ("3", 'or as "==3"'),
        ("3" * 1000, 'or as "==3{20}"'),
        ("<" * 1000 + "3", 'found "<{20}"'),
        (",".join(["!=1"] * 65), "has 65 bounds; at most 64"),
        (">=2,", "bounds such as"),
        (">= -2", "bounds such as"),
        (">=2 <5", "bounds such as"),
        (">=٣", "bounds such as"),
        ("=2", 'found "="'),
        ("=>2", 'found "=>"'),
        ("<>2", 'found "<>"'),
        (">=4294967296", "from 0 to 4294967295"),
        ("<0", "no version is in this range"),
        (">4294967295", "no version is in this range"),
        (">5, <3", "no version is in this range"),
        (">2, <3", "no version is in this range"),
        (">=2, <=3, !=2, !=3", "no version is in this range"),
    ],
)
def test_what_is_no_range_says_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_versions(text)


@pytest.mark.parametrize("version", [-1, LARGEST_VERSION + 1])
def test_a_version_has_the_bounds_of_the_kernel(version: int) -> None:
    with pytest.raises(ValueError, match="from 0 to 4294967295"):
        exactly(version)
