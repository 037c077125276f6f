# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are no TOML, or none that can be taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klpd.policy.source import LARGEST

if TYPE_CHECKING:
    from tests.unit.policy.site import Site

BROKEN: dict[str, tuple[str | bytes, str]] = {
    "an open bracket": ("[policy\nmode = 1\n", "1:8: no TOML: "),
    "an open string": ('[policy]\nmode = "audit\n', "2:14: no TOML: "),
    "no value": ("[policy]\nmode =", "2:7: no TOML: "),
    "an open array": ("[policy]\ndirectories = [\n", "3:1: no TOML: "),
    "a word": ("[policy]\nmode = audit\n", "2:8: no TOML: "),
    "a key given twice": ('[policy]\nmode = "audit"\nmode = "audit"\n', '3:1: "mode" is given twice; the first is in'),
    "a table given twice": ("[policy]\n[state]\n[policy]\n", '3:1: table "policy" is given twice; the first is in'),
    "a byte order mark": (b"\xef\xbb\xbf[policy]\n", "1:1: begins with a byte order mark"),
    "UTF-16": ("[policy]\n".encode("utf-16"), "1:1: not UTF-8"),
    "Latin 1": ("[policy]\nmöde = 'ü'\n".encode("latin-1"), "2:2: not UTF-8"),
    "Latin 1 after UTF-8": ("# äö\n# ü".encode() + b"\xfc", "2:4: not UTF-8"),
    "a NUL": (b"[policy]\n# \0\n", "2:3: no TOML: "),
    "a carriage return": (b"[policy]\rmode = 'audit'", "1:9: no TOML: "),
    "arrays in arrays": ("a = " + "[" * 100_000, "1:21: nested more than 16 levels deep"),
    "tables in tables": ("a = " + "{ a = " * 100_000, "1:97: nested more than 16 levels deep"),
    "a long number": ("a = " + "1" * 5000, "1:5: a value of more than 1000 characters"),
    "a date that is none": ("a = 2023-02-30", "1:5: no TOML: "),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_toml_is_one_error_with_its_place(site: Site, kind: str) -> None:
    text, message = BROKEN[kind]
    (complaint,) = site.complaints(text)
    assert complaint.startswith(message)


def test_lines_may_end_as_on_other_systems(site: Site) -> None:
    assert site.complaints(b'[policy]\r\nmode = "audit"\r\nmodus = 1\r\n')[0].startswith("3:1: unknown key")


def test_a_file_may_be_as_large_as_the_bound(site: Site) -> None:
    assert site.complaints(b"#" * LARGEST) == []


def test_a_larger_file_is_refused(site: Site) -> None:
    assert site.complaints(b"#" * (LARGEST + 1)) == [" larger than 1 MiB, which no such file is"]


def test_what_a_message_repeats_of_a_file_is_short_and_printable(site: Site) -> None:
    for text in ('"\\u001b' + "x" * 100_000 + '" = 1', '"\\u001b' + "x" * 100_000 + '".b = 1\n["\\u001bxx"]\nb=1\nb=2'):
        for complaint in site.complaints(text):
            assert complaint.isprintable()
            assert len(complaint) < 400


def test_a_syntax_error_keeps_nothing_from_being_said_of_other_files(site: Site) -> None:
    first = site.put("10-a.toml", "[policy\n")
    second = site.put("20-b.toml", "[polcy]\n")
    error = site.refusal()
    assert str(error).startswith(f"{first}:1:8: ")
    assert [str(each) for each in error.others] == [f'{second}:1:2: unknown key "polcy"; did you mean "policy"?']
