# SPDX-License-Identifier: GPL-2.0-or-later
"""Ranges of state versions as policies write them: a number, or bounds that must all hold, as in ">=2, <5"."""

from __future__ import annotations

import re
from typing import Final

from klpd.judge.rules import Comparison, VersionRange
from klpd.model import LARGEST_VERSION

_BOUND: Final = re.compile(r"\s*([<>=!]+)\s*([0-9]{1,20})\s*", re.ASCII)


def exactly(version: int) -> VersionRange:
    """The range of one version.  Raises ValueError."""
    return _checked((Comparison.EQUAL, version))


def parse_versions(text: str) -> VersionRange:
    """The range that `text` means.  Raises ValueError, also where no version is in it."""
    return _checked(*(_bound(each) for each in text.split(",")))


def _bound(text: str) -> tuple[Comparison, int]:
    match = _BOUND.fullmatch(text)
    if match is None:
        raise ValueError('expected a version, or bounds such as ">=2, <5"')
    try:
        return Comparison(match[1]), int(match[2])
    except ValueError:
        raise ValueError(f'expected <, <=, ==, !=, >= or >, found "{match[1]}"') from None


def _checked(*bounds: tuple[Comparison, int]) -> VersionRange:
    if any(not 0 <= version <= LARGEST_VERSION for _, version in bounds):
        raise ValueError(f"a version is a number from 0 to {LARGEST_VERSION}")
    versions = VersionRange(bounds)
    # The least version of a range, if there is one, is 0, a bound, or the number after a bound.
    candidates = {0, *(version for _, version in bounds), *(version + 1 for _, version in bounds)}
    if not any(each in versions and each <= LARGEST_VERSION for each in candidates):
        raise ValueError("no version is in this range")
    return versions
