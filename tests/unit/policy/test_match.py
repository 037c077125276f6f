# SPDX-License-Identifier: GPL-2.0-or-later
"""Which livepatches a rule in a policy file is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klpd.model import Livepatch

if TYPE_CHECKING:
    from tests.unit.policy.site import Site

DIGEST = "ab" * 32


def livepatch(name: str = "klp_1", *, replace: bool | None = True) -> Livepatch:
    return Livepatch(name=name, digest=DIGEST, size=1, replace=replace, states=(), objects=(), build_id="1f2e")


def matches(site: Site, conditions: str, given: Livepatch) -> bool:
    policy = site.policy(f"[[livepatch]]\nmatch = {{ {conditions} }}\nverdict = 'allow'")
    return policy.livepatches[0].match(given)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("klp_1", "klp_1", True),
        ("klp_1", "klp_12", False),
        ("klp-1", "klp_1", True),
        ("klp-*", "klp_1", True),
        ("*", "klp_1", True),
        ("KLP_1", "klp_1", False),
        ("klp_?", "klp_1", True),
        ("klp-[0-5]", "klp_3", True),
        ("klp-[0-5]", "klp_6", False),
        ("klp-[!0-5]", "klp_6", True),
        ("klp[-_]1", "klp_1", True),
        ("klp_[]0-5]-x", "klp_3_x", True),
    ],
)
def test_a_name_is_a_pattern_for_the_names_that_modules_have_in_the_kernel(
    site: Site, pattern: str, name: str, expected: bool
) -> None:
    assert matches(site, f'name = "{pattern}"', livepatch(name)) is expected


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (f'sha256 = "{DIGEST}"', True),
        (f'sha256 = "{DIGEST.upper()}"', True),
        (f'sha256 = "{"ac" * 32}"', False),
        ('build-id = "1F2e"', True),
        ('build-id = "1f"', False),
        ("replace = true", True),
        ("replace = false", False),
        (f'name = "klp_*", sha256 = "{DIGEST}", build-id = "1f2e", replace = true', True),
        (f'name = "klp_*", sha256 = "{DIGEST}", build-id = "1f2e", replace = false', False),
        (f'name = "x*", sha256 = "{DIGEST}"', False),
    ],
)
def test_every_condition_has_to_hold(site: Site, conditions: str, expected: bool) -> None:
    assert matches(site, conditions, livepatch()) is expected


@pytest.mark.parametrize("replace", ["true", "false"])
def test_a_livepatch_of_which_cannot_be_known_whether_it_replaces_matches_neither(site: Site, replace: str) -> None:
    assert not matches(site, f"replace = {replace}", livepatch(replace=None))
