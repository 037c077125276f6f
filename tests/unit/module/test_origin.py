# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that share a name and a build id are told apart by what entered the kernel, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from klpd.model import Declaration, Signature, State
from klpd.module.origin import Origin, choose
from tests.builders import declares, livepatch

SIGNED = replace(livepatch("one", (), digest="5a" * 32), signature=Signature("me", "01", "sha512"))
BARE = livepatch("one", (), digest="ba" * 32)


def test_one_that_nobody_saw_is_not_known() -> None:
    assert choose((), None) is None


def test_the_only_one_is_it_however_often_it_lies_there() -> None:
    assert choose((SIGNED, SIGNED), None) == Origin.of(SIGNED)


@pytest.mark.parametrize("entered", [SIGNED.digest, BARE.digest])
def test_what_was_seen_to_enter_is_it(entered: str) -> None:
    found = choose((SIGNED, BARE), entered)
    assert found is not None
    assert found.digest == entered


def test_what_was_seen_to_enter_is_none_of_those_that_are_there() -> None:
    assert choose((SIGNED,), BARE.digest) == Origin(BARE.digest)


def test_of_several_is_known_what_they_have_in_common() -> None:
    one = replace(SIGNED, replace=True, states=(State(1, 1),), declared=declares({7: 1}))
    other = replace(BARE, replace=False, states=(State(1, 1),), declared=declares({8: 1}, sticky=True))
    assert choose((one, other), None) == Origin(
        digest=None,
        replace=None,
        states=(State(1, 1),),
        restores=one.restores,
        declared=one.declared + other.declared,
        signature=None,
    )


def test_one_that_is_declared_to_have_no_states_does_not_speak_for_another() -> None:
    found = choose((replace(SIGNED, declared=Declaration(())), BARE), None)
    assert found is not None
    assert found.declared.states is None
