# SPDX-License-Identifier: GPL-2.0-or-later
"""A livepatch module as people read it."""

from __future__ import annotations

from dataclasses import replace

from klpd.ctl.page import Page
from klpd.ctl.show_livepatch import show_livepatch
from klpd.model import Declaration, Format, Livepatch, Signature, Standing, Trust
from tests.builders import declares
from tests.unit.ctl.examples import NAMES, livepatch, text_of

CLAIMED = Trust(Standing.UNVERIFIED, detail="no certificate")


def test_everything_in_the_file_is_shown() -> None:
    assert text_of(show_livepatch(livepatch(2), Page(), NAMES, CLAIMED)) == (
        "name:             klp_v2\n"
        "version:          1.0\n"
        "description:      shows another command line\n"
        "license:          GPL\n"
        "kernel:           6.1.0-13-amd64\n"
        "vermagic:         6.1.0-13-amd64 SMP preempt mod_unload modversions\n"
        "format:           static\n"
        "atomic replace:   yes\n"
        "states:           0x1001 version 2 (console_loglevel)\n"
        "objects:          vmlinux: cmdline_proc_show, local_func (sympos 2); callbacks pre_patch\n"
        "                  nf_tables: nft_flush\n"
        "depends:          nf_tables, libcrc32c\n"
        "signature:        by Example Kernel CA, key 1234, sha256 (claimed, not verified: no certificate)\n"
        "build id:         " + "aa" * 20 + "\n"
        "srcversion:       0123456789ABCDEF\n"
        "sha256:           " + "2" * 64 + "\n"
        "size:             4096 bytes"
    )


def test_what_cannot_be_known_is_not_taken_for_absent() -> None:
    dynamic = Livepatch("kpatch_1", "0" * 64, 10, replace=None, states=None, objects=None)
    lines = text_of(show_livepatch(dynamic, Page(), NAMES, CLAIMED)).splitlines()
    for label in ("atomic replace:", "states:", "objects:"):
        assert f"{label:<18}unknown: only its code, running, would tell" in lines
    assert f"{'signature:':<18}none" in lines


def test_a_livepatch_with_no_states_has_none() -> None:
    assert "states:           none" in text_of(show_livepatch(replace(livepatch(2), states=()), Page(), NAMES, CLAIMED))


def test_what_is_declared_stands_behind_what_is_real_with_its_place() -> None:
    declared = declares({0x1001: 2, 0x7: 1}, sticky=True, restores=False, file="/m.toml")
    described = replace(declared, title="Fix the locks", fixes=("CVE-2026-1000", "CVE-2026-1001"))
    text = text_of(show_livepatch(replace(livepatch(2), declared=described), Page(), NAMES, CLAIMED))
    assert (
        "states:           0x1001 version 2 (console_loglevel)\n"
        "                  0x1001 version 2 (console_loglevel): declared in /m.toml:1, sticky, "
        "not restored by a reversal\n"
        "                  0x7 version 1: declared in /m.toml:2, sticky, not restored by a reversal\n"
        "title:            Fix the locks\n"
        "fixes:            CVE-2026-1000, CVE-2026-1001\n"
    ) in text


def test_that_there_are_no_states_may_be_declared() -> None:
    none = replace(livepatch(2), states=None, declared=Declaration((), files=("/m.toml",)))
    assert "states:           none, as is declared in /m.toml" in text_of(show_livepatch(none, Page(), NAMES, CLAIMED))
    by_author = replace(none, declared=Declaration(()))
    assert "states:           none, as is declared in its modinfo" in text_of(
        show_livepatch(by_author, Page(), NAMES, CLAIMED)
    )


def test_where_a_format_has_no_states_it_says_so() -> None:
    kpatch = replace(livepatch(2), format=Format.KPATCH_BUILD, states=())
    assert "states:           none: kpatch-build cannot give a livepatch any" in text_of(
        show_livepatch(kpatch, Page(), NAMES, CLAIMED)
    )


def test_a_signature_without_a_signer_is_still_one() -> None:
    signed = replace(livepatch(2), signature=Signature(None, None, None))
    assert "signer not named (claimed, not verified: no certificate)" in text_of(
        show_livepatch(signed, Page(), NAMES, CLAIMED)
    )


def test_a_signature_that_was_verified_is_told_by_the_certificate() -> None:
    trust = Trust(Standing.TRUSTED, "The site", "/etc/site.pem (valid until 2030-01-01)")
    shown = " ".join(text_of(show_livepatch(livepatch(2), Page(), NAMES, trust)).split())
    assert "by The site, key 1234, sha256, verified with /etc/site.pem (valid until 2030-01-01)" in shown


def test_a_description_cannot_move_the_cursor() -> None:
    hostile = replace(livepatch(2), description="fine\x1b[1A\rname: other")
    assert r"description:      fine\x1b[1A\rname: other" in text_of(show_livepatch(hostile, Page(), NAMES, CLAIMED))
