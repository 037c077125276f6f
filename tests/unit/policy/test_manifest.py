# SPDX-License-Identifier: GPL-2.0-or-later
"""Manifests: what they declare, what is said of those that make no sense, and which of them count."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from klpd.errors import PolicyError
from klpd.model import MOST_DECLARED, DeclaredState, Rule, RuleKind, StatesSource
from klpd.policy.manifest import parse_manifest, read_manifest, read_manifests
from tests.unit.policy.site import ME

if TYPE_CHECKING:
    from tests.unit.policy.site import Site

ETC: Final = "etc/klpd/livepatches.d"
USR: Final = "usr/lib/klpd/livepatches.d"
PAGE: Final = Path(__file__).parents[3] / "docs" / "klpd-livepatch.5.md"
DIGEST: Final = "ab" * 32
HEAD: Final = f'[livepatch]\nsha256 = "{DIGEST}"\n'


def complaints(path: Path) -> tuple[PolicyError, ...]:
    """What is wrong with a manifest."""
    try:
        read_manifest(path, owner=ME)
    except PolicyError as error:
        return error.all
    return ()


def test_everything_that_a_manifest_can_say_is_read(site: Site) -> None:
    path = site.put(
        "klp_a.toml",
        f"""[livepatch]
sha256 = "{DIGEST.upper()}"
build-id = "0a0b"
title = "Fix the locks"
fixes = ["CVE-2026-1000", "CVE-2026-123456", "CVE-2026-1000"]

[[state]]
version = 2
id = 0x1001
sticky = true
restores = false

[[state]]
id = 7
version = 0
""",
        ETC,
    )
    manifest = read_manifest(path, owner=ME)
    assert (manifest.file, manifest.sha256, manifest.build_id) == (str(path), DIGEST, "0a0b")
    assert manifest.declaration.title == "Fix the locks"
    assert manifest.declaration.fixes == ("CVE-2026-1000", "CVE-2026-123456")
    assert manifest.declaration.files == (str(path),)
    assert manifest.declaration.states == (
        DeclaredState(
            0x1001, 2, Rule(RuleKind.DECLARED, str(path), 9), StatesSource.MANIFEST, sticky=True, restores=False
        ),
        DeclaredState(7, 0, Rule(RuleKind.DECLARED, str(path), 14), StatesSource.MANIFEST),
    )


@pytest.mark.parametrize(
    ("text", "states"), [("", None), ("stateless = true\n", ()), ("stateless = false\n", None)], ids=repr
)
def test_a_manifest_without_states_says_that_there_are_none_only_if_it_says_so(text: str, states: object) -> None:
    assert parse_manifest((HEAD + text).encode(), "m.toml").declaration.states == states


WRONG: Final = [
    ("# nothing", '1:1: "livepatch" is missing or empty'),
    ("[livepatch]\n", '1:1: "livepatch" is missing or empty'),
    ('[livepatch]\ntitle = "x"\n', '1:1: it takes "sha256" or "build-id" to tell which livepatch is meant'),
    ('[livepatch]\nsha256 = "ab"\n', '2:10: sha256: expected 64 hex digits, two a byte, found "ab"'),
    (HEAD + 'name = "klp_a"\n', '3:1: unknown key "name"'),
    (
        HEAD + 'fixes = ["CVE-26-1"]\n',
        '3:10: fixes: expected the id of a CVE, such as "CVE-2026-12345", found "CVE-26-1"',
    ),
    (HEAD + 'fixes = "CVE-2026-1000"\n', "3:9: fixes: expected an array, found a string"),
    (HEAD + 'title = "a\\nb"\n', "3:9: title: has to be one line of printable characters"),
    (HEAD + "stateless = true\n[[state]]\nid = 1\nversion = 1\n", "3:13: stateless: states are declared below"),
    (HEAD + "[[state]]\nid = 1\n", '3:1: "version" is missing'),
    (HEAD + "[[state]]\nversion = 1\n", '3:1: "id" is missing'),
    (HEAD + "[[state]]\nid = 0\nversion = 1\n", "4:6: id: a state id is a number from 1 to 0xffffffffffffffff"),
    (
        HEAD + "[[state]]\nid = 1\nversion = 0x1_0000_0000\n",
        "5:11: version: a version is a number from 0 to 4294967295",
    ),
    (HEAD + "[[state]]\nid = 1\nversion = true\n", "5:11: version: expected an integer, found a boolean"),
    (HEAD + "[[state]]\nid = 1\nversion = 1\nsticky = 1\n", "6:10: sticky: expected a boolean, found an integer"),
    (HEAD + '[[state]]\nid = 1\nversion = 1\ndrop = "deny"\n', '6:1: unknown key "drop"'),
    (
        HEAD + "[[state]]\nid = 1\nversion = 1\n[[state]]\nid = 0x1\nversion = 2\n",
        "7:6: state 0x1 is given twice: the first is in line 4",
    ),
    (HEAD + '[policy]\nmode = "audit"\n', '3:2: unknown key "policy"'),
    ("\xff", "1:1: no TOML"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_is_said_with_its_place(site: Site, text: str, message: str) -> None:
    path = site.put("m.toml", text, ETC)
    (complaint,) = complaints(path)
    assert str(complaint).removeprefix(f"{path}:").startswith(message)


def test_everything_that_is_wrong_is_said_in_the_order_of_the_lines() -> None:
    with pytest.raises(PolicyError) as caught:
        parse_manifest(b"x = 1\n[[state]]\nsticky = 1\n[livepatch]\nsha256 = 1\n", "m.toml")
    assert [each.line for each in (caught.value, *caught.value.others)] == [1, 2, 2, 3, 5]


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(PolicyError, match=r"^m\.toml:1:2: not UTF-8"):
        parse_manifest(b"#\xff", "m.toml")


@pytest.mark.parametrize(("count", "taken"), [(MOST_DECLARED, True), (MOST_DECLARED + 1, False)])
def test_the_number_of_states_is_bounded(site: Site, count: int, taken: bool) -> None:
    tables = "".join(f"[[state]]\nid = {number}\nversion = 1\n" for number in range(1, count + 1))
    assert (complaints(site.put("m.toml", HEAD + tables, ETC)) == ()) is taken


def test_the_manual_page_has_every_key_and_what_it_shows_checks(site: Site) -> None:
    page = PAGE.read_text()
    documented = set(re.findall(r"^\*\*([a-z0-9-]+)\*\* =", page, re.MULTILINE))
    path = site.put("m.toml", "zzz = 1\n[livepatch]\nzzz = 1\n[[state]]\nzzz = 1\n", ETC)
    lists = [str(each).split("known are ")[1] for each in complaints(path) if "known are " in str(each)]
    assert documented | {"livepatch", "state"} == {key for each in lists for key in each.split(", ")}
    (shown,) = (each for each in re.findall(r"(?:^    .*\n|^\n(?=    ))+", page, re.MULTILINE) if "[livepatch]" in each)
    assert complaints(site.put("m.toml", "\n".join(line[4:] for line in shown.splitlines()), ETC)) == ()


# --- Which of them count ---


def test_a_manifest_hides_those_of_its_name_in_the_directories_after_its_own(site: Site) -> None:
    mine = site.put("a.toml", HEAD, ETC)
    site.put("a.toml", HEAD, USR)
    site.put("masked.toml", "", ETC)
    site.put("masked.toml", HEAD, USR)
    theirs = site.put("b.toml", HEAD, USR)
    assert [each.file for each in read_manifests(site.root, owner=ME)[0]] == [str(mine), str(theirs)]


def test_the_policy_has_the_manifests(site: Site) -> None:
    path = site.put("a.toml", HEAD + "[[state]]\nid = 1\nversion = 1\n", ETC)
    (manifest,) = site.policy().manifests
    assert manifest == read_manifest(path, owner=ME)


def test_a_set_with_a_manifest_that_does_not_check_is_not_taken(site: Site) -> None:
    good = site.put("a.toml", HEAD, ETC)
    bad = site.put("b.toml", "x = 1", ETC)
    manifests, wrong = read_manifests(site.root, owner=ME)
    assert [each.file for each in manifests] == [str(good)]
    assert [each.file for each in wrong] == [str(bad)] * 2
    site.put("50-policy.toml", "y = 1")
    refusal = site.refusal()
    assert [each.file.rsplit("/", 1)[1] for each in (refusal, *refusal.others)] == [
        "50-policy.toml",
        "b.toml",
        "b.toml",
    ]
