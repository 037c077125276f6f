# SPDX-License-Identifier: GPL-2.0-or-later
"""What an update changes, as people read it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from klpd.ctl.page import Page
from klpd.ctl.show_diff import show_difference
from klpd.judge.compare import compare
from klpd.model import Callback, Format, Function, Object, State
from tests.unit.ctl.examples import NAMES, livepatch, text_of

if TYPE_CHECKING:
    from klpd.model import Livepatch

OLD = livepatch(2)


def shown(old: Livepatch, new: Livepatch) -> str:
    return text_of(show_difference(compare(old, new), Page(), NAMES))


def test_all_that_changes_is_shown() -> None:
    new = replace(
        livepatch(3),
        version="1.1",
        format=Format.KPATCH_BUILD,
        replace=None,
        states=(State(0x1001, 3), State(0x1002, 1)),
        objects=(Object("vmlinux", (Function("cmdline_proc_show"), Function("other", 3)), (Callback.POST_PATCH,)),),
    )

    assert shown(replace(OLD, states=(State(0x1001, 2), State(0x1003, 4))), new) == (
        "old:              klp_v2, version 1.0\n"
        "new:              klp_v3, version 1.1\n"
        "format:           static -> kpatch-build\n"
        "atomic replace:   yes -> unknown: only its code, running, would tell\n"
        "states:           0x1001 version 2 -> 3: up (console_loglevel)\n"
        "                  0x1002 version 1: new\n"
        "                  0x1003 version 4: dropped\n"
        "vmlinux:          + other (sympos 3)\n"
        "                  - local_func (sympos 2)\n"
        "                  + callback post_patch\n"
        "                  - callback pre_patch\n"
        "nf_tables:        - nft_flush\n"
        "loading:          refused where the old one is in force\n"
        "                  klp_v3 replaces klp_v2 but does not carry its state 0x1003 version 4\n"
        "reversal:         not safe\n"
        "                  reversing the transition of klp_v3 takes state 0x1001 back from version 3 to 2, and it has "
        "no post_unpatch callback to restore that"
    )


def test_what_stays_is_told_in_few_words() -> None:
    lines = shown(OLD, OLD).splitlines()

    assert f"{'format:':<18}static" in lines
    assert f"{'states:':<18}0x1001 version 2: stays (console_loglevel)" in lines
    assert f"{'objects:':<18}the same functions and callbacks" in lines
    assert lines[-1] == f"{'reversal:':<18}safe: nothing that it takes back has to be restored, or can be"


def test_a_state_that_goes_down_is_told_and_that_the_kernel_refuses_it() -> None:
    lines = shown(OLD, livepatch(1)).splitlines()

    assert f"{'states:':<18}0x1001 version 2 -> 1: down (console_loglevel)" in lines
    assert f"{'loading:':<18}refused where the old one is in force" in lines


def test_an_update_that_the_kernel_takes_is_told() -> None:
    assert f"{'loading:':<18}not refused by the kernel where the old one is in force" in shown(OLD, livepatch(3))


def test_what_cannot_be_known_is_not_taken_for_the_same() -> None:
    lines = shown(OLD, replace(OLD, states=None, objects=None)).splitlines()

    assert f"{'states:':<18}unknown: only its code, running, would tell" in lines
    assert f"{'objects:':<18}unknown: only its code, running, would tell" in lines
    assert lines[-1] == f"{'reversal:':<18}cannot be known"
    assert "loading:          cannot be known" in shown(OLD, replace(livepatch(3), states=None))


def test_livepatches_without_states_have_none() -> None:
    assert "states:           none" in shown(replace(OLD, states=()), replace(OLD, states=()))
