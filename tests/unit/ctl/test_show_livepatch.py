# SPDX-License-Identifier: GPL-2.0-or-later
"""A livepatch module as people read it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from klpd.ctl.page import Page
from klpd.ctl.show_livepatch import show_livepatch
from klpd.model import (
    Callback,
    Declaration,
    Demand,
    Format,
    Function,
    Livepatch,
    Object,
    Signature,
    Standing,
    State,
    Trust,
)
from tests.builders import declares
from tests.unit.ctl.examples import NAMES, livepatch, text_of

CLAIMED = Trust(Standing.UNVERIFIED, detail="no certificate")


def test_everything_in_the_file_is_shown() -> None:
    assert text_of(show_livepatch(livepatch(2), Page(), NAMES, CLAIMED, Demand.NOTHING)) == (
        "name:           klp_v2, version 1.0\n"
        "description:    shows another command line\n"
        "license:        GPL\n"
        "vermagic:       6.1.0-13-amd64 SMP preempt mod_unload modversions\n"
        "format:         static, 4096 bytes\n"
        "atomic replace: yes\n"
        "states:         0x1001 version 2 (console_loglevel)\n"
        "objects:        vmlinux: 2 functions; callbacks pre_patch: cmdline_proc_show, local_func (sympos 2)\n"
        "                nf_tables: 1 function: nft_flush\n"
        "depends:        nf_tables, libcrc32c\n"
        "signature:      by Example Kernel CA, key 1234, sha256 (claimed, not verified: no certificate)\n"
        "                the kernel does not demand signatures\n"
        "build id:       " + "aa" * 20 + "\n"
        "srcversion:     0123456789ABCDEF\n"
        "sha256:         " + "2" * 64
    )


def test_how_the_layout_that_it_was_read_by_is_known_stands_beside_its_format() -> None:
    read = replace(livepatch(2), layout="BTF of 6.1.0-13-amd64")
    assert "format:         static, 4096 bytes; layout: BTF of 6.1.0-13-amd64\n" in text_of(
        show_livepatch(read, Page(80), NAMES, CLAIMED, Demand.NOTHING)
    )


def test_what_cannot_be_known_is_not_taken_for_absent() -> None:
    dynamic = Livepatch("kpatch_1", "0" * 64, 10, replace=None, states=None, objects=None)
    lines = text_of(show_livepatch(dynamic, Page(), NAMES, CLAIMED, Demand.NOTHING)).splitlines()
    for label in ("atomic replace:", "states:", "objects:"):
        assert f"{label:<16}unknown: only its code, running, would tell" in lines
    assert f"{'signature:':<16}none" in lines


def test_a_livepatch_with_no_states_has_none() -> None:
    assert "states:         none" in text_of(
        show_livepatch(replace(livepatch(2), states=()), Page(), NAMES, CLAIMED, Demand.NOTHING)
    )


def test_what_is_declared_stands_behind_what_is_real_with_its_place() -> None:
    declared = declares({0x1001: 2, 0x7: 1}, sticky=True, restores=False, file="/m.toml")
    described = replace(declared, title="Fix the locks", fixes=("CVE-2026-1000", "CVE-2026-1001"))
    text = text_of(show_livepatch(replace(livepatch(2), declared=described), Page(), NAMES, CLAIMED, Demand.NOTHING))
    assert (
        "states:         0x1001 version 2 (console_loglevel)\n"
        "                0x1001 version 2 (console_loglevel): declared in /m.toml:1, sticky, "
        "not restored by a reversal\n"
        "                0x7 version 1: declared in /m.toml:2, sticky, not restored by a reversal\n"
        "title:          Fix the locks\n"
        "fixes:          CVE-2026-1000, CVE-2026-1001\n"
    ) in text


def test_that_there_are_no_states_may_be_declared() -> None:
    none = replace(livepatch(2), states=None, declared=Declaration((), files=("/m.toml",)))
    assert "states:         none, as is declared in /m.toml" in text_of(
        show_livepatch(none, Page(), NAMES, CLAIMED, Demand.NOTHING)
    )
    by_author = replace(none, declared=Declaration(()))
    assert "states:         none, as is declared in its modinfo" in text_of(
        show_livepatch(by_author, Page(), NAMES, CLAIMED, Demand.NOTHING)
    )


def test_where_a_format_has_no_states_it_says_so() -> None:
    kpatch = replace(livepatch(2), format=Format.KPATCH_BUILD, states=())
    assert "states:         none: kpatch-build cannot give a livepatch any" in text_of(
        show_livepatch(kpatch, Page(), NAMES, CLAIMED, Demand.NOTHING)
    )


def test_a_signature_without_a_signer_is_still_one() -> None:
    signed = replace(livepatch(2), signature=Signature(None, None, None))
    assert "signer not named (claimed, not verified: no certificate)" in text_of(
        show_livepatch(signed, Page(), NAMES, CLAIMED, Demand.NOTHING)
    )


def test_a_signature_that_was_verified_is_told_by_the_certificate() -> None:
    trust = Trust(Standing.TRUSTED, "The site", "/etc/site.pem (valid until 2030-01-01)")
    shown = " ".join(text_of(show_livepatch(livepatch(2), Page(), NAMES, trust, Demand.NOTHING)).split())
    assert "by The site, key 1234, sha256, verified with /etc/site.pem (valid until 2030-01-01)" in shown


@pytest.mark.parametrize(
    ("demand", "told"),
    [
        (Demand.SIG_ENFORCE, "the kernel refuses what its keyrings do not verify (sig_enforce)"),
        (Demand.LOCKDOWN, "the kernel refuses what its keyrings do not verify (lockdown)"),
        (Demand.NOTHING, "the kernel does not demand signatures"),
        (Demand.UNCHECKED, "the kernel does not check signatures"),
        (None, "whether the kernel demands signatures cannot be read"),
    ],
)
def test_what_the_kernel_demands_stands_beside_the_signature(demand: Demand | None, told: str) -> None:
    shown = text_of(show_livepatch(replace(livepatch(2), signature=None), Page(), NAMES, CLAIMED, demand))
    assert f"signature:      none\n                {told}\n" in shown


def functions(count: int) -> tuple[Function, ...]:
    return tuple(Function(f"some_subsystem_function_{number}") for number in range(count))


SCREEN: Final = Page(80)
LARGE: Final = replace(
    livepatch(2),
    layout="BTF of 6.1.0-13-amd64",
    states=(State(0x1001, 2), State(0x2, 1)),
    objects=(Object("vmlinux", functions(300), (Callback.PRE_PATCH,)), Object("nf_tables", functions(40))),
    signature=Signature("Example Kernel CA", ":".join(["AB"] * 20), "sha256"),
)


def test_a_livepatch_of_hundreds_of_functions_stays_on_one_screen() -> None:
    trust = Trust(Standing.UNVERIFIED, detail="the policy names no certificate to verify its signature with")
    lines = text_of(show_livepatch(LARGE, SCREEN, NAMES, trust, Demand.SIG_ENFORCE)).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "vmlinux: 300 functions; callbacks pre_patch: some_subsystem_function_0, some_subsystem_function_1," in text
    assert "nf_tables: 40 functions: some_subsystem_function_0," in text
    assert text.count(" more; --json has all") == 2


def test_a_cut_list_counts_what_it_leaves_out() -> None:
    text = " ".join(text_of(show_livepatch(LARGE, SCREEN, NAMES, CLAIMED, None)).split())
    for part, whole in zip(text.split(" functions")[1:], (300, 40), strict=True):
        listed, left = part.split(", ... and ")
        assert listed.count("some_subsystem_function_") + int(left.split()[0]) == whole


def test_of_many_objects_some_are_shown_and_the_rest_counted() -> None:
    many = replace(LARGE, objects=tuple(Object(f"module_{number}", functions(9)) for number in range(30)))
    lines = text_of(show_livepatch(many, SCREEN, NAMES, CLAIMED, None)).splitlines()
    assert len(lines) <= 24
    assert f"{'':16}module_2: 9 functions" in lines
    assert f"{'':16}... and 27 more; --json has all" in lines


def test_many_states_and_fixes_are_cut_too() -> None:
    described = Declaration(fixes=tuple(f"CVE-2026-{number}" for number in range(1000, 1050)))
    many = replace(LARGE, states=tuple(State(number, 1) for number in range(50)), declared=described)
    lines = text_of(show_livepatch(many, SCREEN, NAMES, CLAIMED, None)).splitlines()
    assert f"{'':16}... and 47 more; --json has all" in lines
    assert sum("CVE-" in each for each in lines) == 2


def test_where_there_is_no_screen_nothing_is_cut() -> None:
    text = text_of(show_livepatch(LARGE, Page(), NAMES, CLAIMED, None))
    assert text.count("some_subsystem_function_") == 340
    assert "more" not in text


def test_that_more_may_be_declared_is_told_with_the_reason() -> None:
    unreadable = replace(livepatch(2), declared=Declaration(unreadable="it may not be read"))
    text = text_of(show_livepatch(unreadable, Page(), NAMES, CLAIMED, None))
    assert "\ndeclared:       there may be more: it may not be read\n" in text


def test_a_description_cannot_move_the_cursor() -> None:
    hostile = replace(livepatch(2), description="fine\x1b[1A\rname: other")
    assert r"description:    fine\x1b[1A\rname: other" in text_of(
        show_livepatch(hostile, Page(), NAMES, CLAIMED, Demand.NOTHING)
    )
