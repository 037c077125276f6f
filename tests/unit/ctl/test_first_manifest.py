# SPDX-License-Identifier: GPL-2.0-or-later
"""The manifest to begin with checks, is for its livepatch, and becomes what it shows when it is filled in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from klpd.ctl.first_manifest import first_manifest
from klpd.model import Function, Object
from klpd.policy.manifest import parse_manifest
from tests.unit.ctl.examples import livepatch

KPATCH = replace(livepatch(1), states=None, objects=None)
HOSTILE = replace(
    livepatch(1),
    description='a "fix" of C:\\, and "no more"',
    objects=(Object("vmlinux\n[policy]", (Function("f\nx = 1"),)),),
)


@pytest.mark.parametrize(
    "one",
    [livepatch(2), KPATCH, HOSTILE, replace(KPATCH, description="a\nb"), replace(KPATCH, build_id=None)],
    ids=["with states", "kpatch's", "odd names", "two lines of description", "no build id"],
)
def test_it_checks_and_is_for_the_livepatch_and_says_nothing_of_states(one: object) -> None:
    assert isinstance(one, type(KPATCH))
    manifest = parse_manifest(first_manifest(one, "/tmp/klp\n.ko.xz").encode(), "m.toml")
    assert manifest.is_for(one)
    assert manifest.declaration.states is None


@pytest.mark.parametrize("one", [livepatch(2), KPATCH])
def test_what_it_has_as_comments_checks_too(one: object) -> None:
    assert isinstance(one, type(KPATCH))
    head, tables = first_manifest(one, "klp.ko").split("# Else each state that it changes has a table:")
    filled = head.replace("# fixes", "fixes") + "".join(
        f"{line.removeprefix('# ')}\n" for line in tables.splitlines() if not line.startswith("# The module")
    )
    manifest = parse_manifest(filled.encode(), "m.toml")
    (state,) = manifest.declaration.states or ()
    assert (state.id, state.version) == ((0x1001, 2) if one.states else (0x1001, 1))
    assert manifest.declaration.fixes == ("CVE-2026-12345",)


def test_what_the_module_says_of_itself_is_there() -> None:
    text = first_manifest(HOSTILE, "/some/where/klp-v1.ko.xz")
    assert text.startswith("# What klp-v1.ko.xz changes, for klpd;")
    assert "as klp-v1.livepatch.toml, root's" in text
    assert parse_manifest(text.encode(), "m.toml").declaration.title == HOSTILE.description
