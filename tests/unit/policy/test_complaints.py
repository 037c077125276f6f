# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said of policy files that make no sense, and where."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from klpd.policy.check import MOST_COMPLAINTS

if TYPE_CHECKING:
    from tests.unit.policy.site import Site

SIXTY_FOUR = "0" * 64
LONG = "x" * 301
LIBRARY = Path(os.__file__).parent

# One wrong thing each: the text, and all that is said of it.
WRONG = [
    # Keys that nobody knows.
    ("[polcy]", '1:2: unknown key "polcy"; did you mean "policy"?'),
    ("x = 1", '1:1: unknown key "x"; known are policy, transition, state, livepatch'),
    ('[policy]\nmodus = "audit"', '2:1: unknown key "modus"; did you mean "mode"?'),
    ('[policy]\n  hold_timeout = "1s"', '2:3: unknown key "hold_timeout"; did you mean "hold-timeout"?'),
    ('[transition]\n"time out" = "1s"', '2:1: unknown key "time out"; did you mean "timeout"?'),
    ("[[state]]\nid = 1\nstikcy = true", '3:1: unknown key "stikcy"; did you mean "sticky"?'),
    (
        '[[livepatch]]\nmatch = { name = "a" }\nverdict = "allow"\nfoo.bar = 1',
        '4:1: unknown key "foo"; known are match, verdict, reason, timeout, on-timeout, force',
    ),
    (
        '[[livepatch]]\nverdict = "deny"\nmatch = { name = "a", buildid = "ab" }',
        '3:23: unknown key "buildid"; did you mean "build-id"?',
    ),
    # Types.
    ("[policy]\nmode = 1", "2:8: mode: expected a string, found an integer"),
    ("[policy]\nmode = true", "2:8: mode: expected a string, found a boolean"),
    ("[policy]\nmode = 2023-01-01", "2:8: mode: expected a string, found a date or time"),
    ('[policy]\ndirectories = "/opt"', "2:15: directories: expected an array, found a string"),
    ('[policy]\ndirectories = ["/opt", 1.5]', "2:24: directories: expected a string, found a float"),
    ('[[state]]\nid = "one"', "2:6: id: expected an integer, found a string"),
    ("[[state]]\nid = true", "2:6: id: expected an integer, found a boolean"),
    ('[[state]]\nid = 1\nsticky = "true"', "3:10: sticky: expected a boolean, found a string"),
    (
        "[[state]]\nid = 1\nversions = [2]",
        '3:12: versions: expected a version, or a string of bounds such as ">=2, <5", found an array',
    ),
    (
        "[[state]]\nid = 1\nversions = true",
        '3:12: versions: expected a version, or a string of bounds such as ">=2, <5", found a boolean',
    ),
    (
        "[[state]]\nid = 1\nversions = 1.5",
        '3:12: versions: expected a version, or a string of bounds such as ">=2, <5", found a float',
    ),
    (
        '[[state]]\nid = 1\nversions = "2"',
        '3:12: versions: the only version is written without quotes, or as "==2"',
    ),
    (
        '[[state]]\nid = 1\nversions = "two"',
        '3:12: versions: expected bounds such as ">=2, <5", or a version without quotes',
    ),
    (
        f'[[state]]\nid = 1\nversions = "{", ".join(["!=1"] * 4000)}"',
        "3:12: versions: has 4000 bounds; at most 64 are taken",
    ),
    ('[[livepatch]]\nverdict = "deny"\nmatch = { replace = 1 }', "3:21: replace: expected a boolean, found an integer"),
    # Tables.
    ("policy = 1", "1:10: policy: expected a table, found an integer"),
    ("[[policy]]", "1:1: policy: expected a table, found an array; write [policy]"),
    ("[state]\nid = 1", "1:1: state: expected an array of tables, found a table; write [[state]]"),
    ('livepatch = "a"', "1:13: livepatch: expected an array of tables, found a string; write [[livepatch]]"),
    ("state = [1]", "1:10: state: expected a table, found an integer"),
    ('[[livepatch]]\nverdict = "deny"\nmatch = "a"', "3:9: match: expected a table, found a string"),
    (
        '[[livepatch]]\nverdict = "deny"\nmatch = ["x"]',
        "3:9: match: expected a table, found an array; write [livepatch.match]",
    ),
    (
        '[[livepatch]]\nverdict = "deny"\n[[livepatch.match]]\nname = "x"',
        "3:1: match: expected a table, found an array; write [livepatch.match]",
    ),
    (
        'policy.mode = "audit"\n[policy]\ndefault = "deny"',
        '2:8: no TOML: "policy" cannot begin here: earlier lines have it, or what it is in, by a header, a key or a '
        "value",
    ),
    (
        'a = { b = 1 }\na."c d".e = 1',
        '2:14: no TOML: "a.c d" cannot be added to: earlier lines have it, or what it is in, as a value',
    ),
    (
        "[a.b.c]\nz = 9\n[a]\nb.c.t = 1",
        '4:10: no TOML: "a.b.c" is a table with a header of its own; put the key under that',
    ),
    # What has to be there.
    ("\n[[state]]\nsticky = true", '2:1: "id" is missing'),
    ('[[livepatch]]\nmatch = { name = "a" }', '1:1: "verdict" is missing'),
    ('[[livepatch]]\nverdict = "deny"', '1:1: "match" is missing or empty'),
    ('[[livepatch]]\nverdict = "deny"\nmatch = {}', '3:9: "match" is missing or empty'),
    # Words.
    ('[policy]\nmode = "strict"', '2:8: mode: expected "enforce" or "audit", found "strict"'),
    ('[policy]\ndefault = "Deny"', '2:11: default: expected "allow" or "deny", found "Deny"'),
    ('[policy]\nunknown-states = ""', '2:18: unknown-states: expected "allow" or "deny", found ""'),
    (
        '[transition]\non-timeout = "kill"',
        '2:14: on-timeout: expected "reverse" or "wait" or "force", found "kill"',
    ),
    *(
        (text, f'{place}: on-timeout: forcing is denied; this takes force = "allow" as well (<site>:{line})')
        for text, place, line in (
            ('[transition]\non-timeout = "force"\nforce = "deny"', "2:14", 3),
            (
                '[transition]\nforce = "allow"\n'
                '[[livepatch]]\nmatch = { name = "a" }\non-timeout = "force"\nforce = "deny"',
                "5:14",
                6,
            ),
            (
                '[[livepatch]]\nmatch = { name = "a*" }\nforce = "deny"\n'
                '[[livepatch]]\nmatch = { name = "ab" }\non-timeout = "force"\nforce = "allow"',
                "6:14",
                3,
            ),
        )
    ),
    (
        '[[livepatch]]\nmatch = { name = "a" }\ntimeout = "8d"',
        '3:11: timeout: expected more than 0 and at most 1w, found "8d"',
    ),
    (
        '[[livepatch]]\nmatch = { name = "a" }\nreason = "mine"',
        '1:1: "verdict" is missing',
    ),
    ('[[state]]\nid = 1\ndrop = "never"', '3:8: drop: expected "allow" or "deny", found "never"'),
    # Time spans.
    ("[transition]\ntimeout = 5", '2:11: timeout: a time span is a string with a unit, such as "90s"'),
    (
        '[transition]\ntimeout = "5"',
        '2:11: timeout: expected a time span with its unit, such as "90s" or "1h 30min", found "5"',
    ),
    ('[transition]\ntimeout = "0s"', '2:11: timeout: expected more than 0 and at most 1w, found "0s"'),
    ('[transition]\ntimeout = "8d"', '2:11: timeout: expected more than 0 and at most 1w, found "8d"'),
    *(
        (
            f'[policy]\nhold-timeout = "{given}"',
            f'2:16: hold-timeout: expected at least 100ms and at most 60s, found "{given}"',
        )
        for given in ("61s", "1us", "5ms", "99ms", "0s")
    ),
    # States.
    ("[[state]]\nid = 0", "2:6: id: a state id is a number from 1 to 0xffffffffffffffff"),
    ("[[state]]\nid = -1", "2:6: id: a state id is a number from 1 to 0xffffffffffffffff"),
    ("[[state]]\nid = 0x1_0000_0000_0000_0000", "2:6: id: a state id is a number from 1 to 0xffffffffffffffff"),
    ('[[state]]\nid = 1\nname = " "', "3:8: name: is empty"),
    ('[[state]]\nid = 1\nname = "a\\nb"', "3:8: name: has to be one line of printable characters"),
    ('[[state]]\nid = 1\nversions = ">5, <3"', "3:12: versions: no version is in this range"),
    ("[[state]]\nid = 1\nversions = -1", "3:12: versions: a version is a number from 0 to 4294967295"),
    ("[[state]]\nid = 1\n[[state]]\nid = 0x1", "4:6: state 0x1 is given twice: the first is in line 2"),
    # Texts.
    *(
        (text, f"{place} has 301 characters; at most 300 are taken")
        for text, place in (
            (f'[[state]]\nid = 1\nname = "{LONG}"', "3:8: name:"),
            (f'[[livepatch]]\nverdict = "deny"\nmatch = {{ name = "a" }}\nreason = "{LONG}"', "4:10: reason:"),
            (f'[[livepatch]]\nverdict = "deny"\nmatch = {{ signer = "{LONG}" }}', "3:20: signer:"),
        )
    ),
    (
        f'[[livepatch]]\nverdict = "deny"\nmatch = {{ name = "{"*a" * 10_000}" }}',
        "3:18: name: has 20000 characters; at most 256 are taken",
    ),
    (f'[policy]\ndirectories = ["/{"x" * 4095}"]', "2:16: directories: has 4096 characters; at most 4095 are taken"),
    # Patterns.
    (
        '[[livepatch]]\nverdict = "deny"\nmatch = { name = "lp_[[:digit:]]*" }',
        '3:18: name: there is nothing like "[:...:]" in patterns; write the characters or a range, as in "[0-9]", '
        'found "lp_[[:digit:]]*"',
    ),
    (
        '[[livepatch]]\nverdict = "deny"\nmatch = { name = "lp_[" }',
        '3:18: name: "[" without its "]", found "lp_["',
    ),
    # Directories.
    *(
        (
            f"[policy]\ndirectories = ['/a', '{path}']",
            f'2:22: directories: expected an absolute path without "//", "." and "..", found "{path}"',
        )
        for path in ("opt", "./opt", "/opt/", "/opt/../etc", "//opt", "/opt//a", "/.")
    ),
    (
        f'[policy]\ndirectories = ["{LIBRARY}"]',
        f"2:16: directories: klpd would have to wait for itself, since its own files are there ({LIBRARY})",
    ),
    (
        f'[policy]\ndirectories = ["{LIBRARY.parent}"]',
        f"2:16: directories: klpd would have to wait for itself, since its own files are there ({LIBRARY})",
    ),
    (
        '[policy]\ndirectories = ["/"]',
        "2:16: directories: every program that opens any file would have to wait for klpd; name the directories",
    ),
    (
        '[policy]\ndirectories = ["/a\\u0000"]',
        "2:16: directories: has to be one line of printable characters",
    ),
    # Conditions.
    *(
        (
            f'[[livepatch]]\nverdict = "deny"\nmatch = {{ name = "{name}" }}',
            f'3:18: name: expected the name of a module, without directory and .ko, found "{name}"',
        )
        for name in ("kpatch_*.ko", "klp.ko.xz", "/opt/*")
    ),
    (
        '[[livepatch]]\nverdict = "deny"\nmatch = { sha256 = "abc" }',
        '3:20: sha256: expected 64 hex digits, two a byte, found "abc"',
    ),
    (
        f'[[livepatch]]\nverdict = "deny"\nmatch = {{ sha256 = "{SIXTY_FOUR[:-1]}x" }}',
        f'3:20: sha256: expected 64 hex digits, two a byte, found "{SIXTY_FOUR[:57]}..."',
    ),
    (
        '[[livepatch]]\nverdict = "deny"\nmatch = { build-id = "abc" }',
        '3:22: build-id: expected 2 to 128 hex digits, two a byte, found "abc"',
    ),
    ('[policy]\nuntrusted = "no"', '2:13: untrusted: expected "allow" or "deny", found "no"'),
    (
        '[policy]\ntrusted-certificates = ["/dev/null"]',
        "2:25: trusted-certificates: /dev/null: not a regular file",
    ),
    (
        '[policy]\ntrusted-certificates = ["here.pem"]',
        '2:25: trusted-certificates: expected an absolute path, found "here.pem"',
    ),
    (
        '[policy]\ntrusted-certificates = ["/nonexistent"]',
        "2:25: trusted-certificates: /nonexistent cannot be read: No such file or directory",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_is_said_with_its_place(site: Site, text: str, message: str) -> None:
    assert [each.replace(str(site.path("checked")), "<site>") for each in site.complaints(text)] == [message]


def test_all_elements_of_an_array_that_are_wrong_are_told_at_once(site: Site) -> None:
    assert site.complaints(
        '[policy]\ndirectories = ["/a", "b", "/c", 4]\ntrusted-certificates = ["/dev/null", "here.pem"]'
    ) == [
        '2:22: directories: expected an absolute path without "//", "." and "..", found "b"',
        "2:33: directories: expected a string, found an integer",
        "3:25: trusted-certificates: /dev/null: not a regular file",
        '3:38: trusted-certificates: expected an absolute path, found "here.pem"',
    ]


def test_a_directory_is_what_its_links_lead_to(site: Site) -> None:
    link = site.root / "library"
    link.symlink_to(LIBRARY.parent)
    (site.root / "top").symlink_to("/")
    assert site.complaints(f'[policy]\ndirectories = ["{link}", "{link}/{LIBRARY.name}", "{site.root}/top"]') == [
        f"2:{column}: directories: {why}"
        for column, why in (
            (16, f"klpd would have to wait for itself, since its own files are there ({LIBRARY})"),
            (16 + len(str(link)) + 4, f"klpd would have to wait for itself, since its own files are there ({LIBRARY})"),
            (
                16 + 2 * len(str(link)) + len(LIBRARY.name) + 9,
                "every program that opens any file would have to wait for klpd; name the directories",
            ),
        )
    ]


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_lines(site: Site) -> None:
    complaints = site.complaints(
        """
[[livepatch]]
verdict = "perhaps"
[policy]
mode = 1
modus = 2
[transition]
timeout = "1"
[[state]]
id = 0
drop = "never"
"""
    )
    assert [each.split(":")[0] for each in complaints] == ["2", "3", "5", "6", "8", "10", "11"]


def test_the_same_state_may_be_in_several_files(site: Site) -> None:
    text = "[[state]]\nid = 1\nsticky = true"
    assert site.policy(text, text).states[1].sticky


def test_complaints_about_one_file_have_a_bound(site: Site) -> None:
    unknown = "".join(f"k{number} = 1\n" for number in range(1000))
    assert len(site.complaints(unknown)) == MOST_COMPLAINTS
    assert len(site.complaints("[[state]]\n" * 1000)) == MOST_COMPLAINTS


@pytest.mark.parametrize(
    "text",
    [
        '[transition]\non-timeout = "force"\nforce = "allow"',
        '[transition]\non-timeout = "force"\n[[livepatch]]\nmatch = { name = "a" }\nforce = "allow"',
        '[transition]\nforce = "allow"\n[[livepatch]]\nmatch = { name = "a" }\non-timeout = "force"',
        '[[livepatch]]\nmatch = { name = "a" }\non-timeout = "force"\nforce = "allow"',
    ],
    ids=["for all", "for all, though only one may be", "for one of all that may be", "for the one that may be"],
)
def test_forcing_after_a_timeout_may_be_asked_for_where_it_is_allowed(site: Site, text: str) -> None:
    assert site.complaints(text) == []


NO_FORCE = 'on-timeout: forcing is denied; this takes force = "allow" as well'


def test_a_later_file_may_deny_the_force_that_an_earlier_one_asks_for(site: Site) -> None:
    site.policy('[transition]\non-timeout = "force"\nforce = "allow"', '[transition]\nforce = "deny"')
    assert site.warnings() == [
        f"etc/klpd/policy.d/10-test.toml:2:14: warning: {NO_FORCE} (etc/klpd/policy.d/20-test.toml:2)"
    ]


def test_so_may_a_rule_of_a_later_file(site: Site) -> None:
    rule = '[[livepatch]]\nmatch = { name = "a_1" }\non-timeout = "force"\nforce = "allow"'
    site.policy(rule, '[[livepatch]]\nmatch = { name = "a_*" }\nforce = "deny"')
    assert site.warnings() == [
        f"etc/klpd/policy.d/10-test.toml:3:14: warning: {NO_FORCE} (etc/klpd/policy.d/20-test.toml:3)"
    ]
    site.policy(rule, '[[livepatch]]\nmatch = { name = "b_*" }\nforce = "deny"')
    assert site.warnings() == []


@pytest.mark.parametrize(
    "texts",
    [
        ('[transition]\nforce = "allow"', '[transition]\non-timeout = "force"'),
        ('[transition]\non-timeout = "force"', '[transition]\nforce = "allow"'),
        ('[transition]\nforce = "allow"', '[[livepatch]]\nmatch = { name = "a" }\non-timeout = "force"'),
        ('[transition]\non-timeout = "force"', '[[livepatch]]\nmatch = { name = "a" }\nforce = "allow"'),
        ('[transition]\non-timeout = "force"', '[transition]\non-timeout = "wait"'),
    ],
)
def test_what_is_asked_for_in_one_file_may_be_allowed_in_another_or_taken_back(
    site: Site, texts: tuple[str, ...]
) -> None:
    site.policy(*texts)
    assert site.warnings() == []
    assert site.complaints(texts[0]) == site.complaints(texts[1]) == []


@pytest.mark.parametrize(
    "texts",
    [
        ('[transition]\nforce = "deny"', '[transition]\non-timeout = "force"'),
        ('[transition]\non-timeout = "force"',),
        (
            '[[livepatch]]\nmatch = { name = "a*" }\nforce = "allow"',
            '[[livepatch]]\nmatch = { name = "b" }\non-timeout = "force"',
        ),
    ],
)
def test_what_no_file_allows_is_an_error(site: Site, texts: tuple[str, ...]) -> None:
    for number, text in enumerate(texts):
        site.put(f"{number}.toml", text)
    (error,) = site.refusal().all
    assert (error.file, error.column) == (str(site.path(f"{len(texts) - 1}.toml")), 14)
    assert error.message.startswith(NO_FORCE)


def test_rules_that_never_decide_are_pointed_out_with_both_places(site: Site) -> None:
    site.policy(
        '[[livepatch]]\nmatch = { name = "fld_lp1" }\nverdict = "deny"\n'
        '[[livepatch]]\nmatch = { name = "other" }\nverdict = "deny"',
        '[[livepatch]]\nmatch = { name = "fld-*" }\nverdict = "allow"',
    )
    directory = "etc/klpd/policy.d"
    assert site.warnings() == [
        f"{directory}/10-test.toml:1: warning: this rule never decides anything: {directory}/20-test.toml:1 is asked "
        "before it and matches whatever it matches"
    ]


def test_a_file_of_any_name_can_be_checked(site: Site) -> None:
    assert site.complaints('[policy]\nmode = "audit"') == []
