# SPDX-License-Identifier: GPL-2.0-or-later
"""Ranges of state versions as policies write them: a number, or bounds that must all hold, as in ">=2, <5"."""

from __future__ import annotations

import re
from typing import Final

from klpd.judge.rules import Comparison, VersionRange
from klpd.model import LARGEST_VERSION

MOST_BOUNDS: Final = 64
"""Nobody needs as many, and findings repeat them all."""
_LONGEST: Final = 20
_BOUND: Final = re.compile(r"\s*([<>=!]+)\s*([0-9]{1,20})\s*", re.ASCII)


def exactly(version: int) -> VersionRange:
    """The range of one version.  Raises ValueError."""
    return _checked((Comparison.EQUAL, version))


def parse_versions(text: str) -> VersionRange:
    """The range that `text` means.  Raises ValueError, also where no version is in it."""
    if text.count(",") >= MOST_BOUNDS:
        raise ValueError(f"has {text.count(',') + 1} bounds; at most {MOST_BOUNDS} are taken")
    return _checked(*(_bound(each) for each in text.split(",")))


def _bound(text: str) -> tuple[Comparison, int]:
    match = _BOUND.fullmatch(text)
    if match is None and text.strip().isdecimal():
        raise ValueError(f'the only version is written without quotes, or as "=={text.strip()[:_LONGEST]}"')
    if match is None:
        raise ValueError('expected bounds such as ">=2, <5", or a version without quotes')
    try:
        return Comparison(match[1]), int(match[2])
    except ValueError:
        raise ValueError(f'expected <, <=, ==, !=, >= or >, found "{match[1][:_LONGEST]}"') from None


def _checked(*bounds: tuple[Comparison, int]) -> VersionRange:
    if any(not 0 <= version <= LARGEST_VERSION for _, version in bounds):
        raise ValueError(f"a version is a number from 0 to {LARGEST_VERSION}")
    low, high, excluded = 0, LARGEST_VERSION, set[int]()
    for comparison, version in bounds:
        match comparison:
            case Comparison.NOT_EQUAL:
                excluded.add(version)
            case Comparison.LESS | Comparison.LESS_EQUAL:
                high = min(high, version - (comparison is Comparison.LESS))
            case Comparison.GREATER | Comparison.GREATER_EQUAL:
                low = max(low, version + (comparison is Comparison.GREATER))
            case Comparison.EQUAL:
                low, high = max(low, version), min(high, version)
    if high - low < sum(low <= each <= high for each in excluded):
        raise ValueError("no version is in this range")
    return VersionRange(bounds)
