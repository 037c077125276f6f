# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the keys and values of a TOML text are."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from klpd.policy.positions import DEEPEST, LONGEST_PLAIN, Positions

if TYPE_CHECKING:
    from klpd.policy.positions import Path

# (text, path, where its key is, where its value is)
PLACES: list[tuple[str, Path, str, str]] = [
    ("a = 1", ("a",), "1:1", "1:5"),
    ("\n  a  =  1", ("a",), "2:3", "2:9"),
    ("\ta = 1", ("a",), "1:2", "1:6"),
    ("# a = 2\na = 1 # a = 3", ("a",), "2:1", "2:5"),
    ("[t]\na = 1", ("t",), "1:2", "1:1"),
    ("[t]\na = 1", ("t", "a"), "2:1", "2:5"),
    (" [ t ] # x\n\n a = 1", ("t", "a"), "3:2", "3:6"),
    ("[t.u]\na = 1", ("t",), "1:2", "1:2"),
    ("[t.u]\na = 1", ("t", "u"), "1:4", "1:1"),
    ("[t.u]\n[t]", ("t",), "2:2", "2:1"),
    ("a.b = 1\na.c = 2", ("a",), "1:1", "1:1"),
    ("a.b = 1\na.c = 2", ("a", "c"), "2:3", "2:7"),
    ("'a b'.\"c\\u0064\" = 1", ("a b", "cd"), "1:7", "1:19"),
    ('"" = 1', ("",), "1:1", "1:6"),
    ("[[t]]\na = 1\n[[t]]\na = 2", ("t",), "1:3", "1:1"),
    ("[[t]]\na = 1\n[[t]]\na = 2", ("t", 1), "3:1", "3:1"),
    ("[[t]]\na = 1\n[[t]]\na = 2", ("t", 1, "a"), "4:1", "4:5"),
    ("[[t]]\n[t.u]\n[[t]]\n[t.u]\na = 1", ("t", 1, "u", "a"), "5:1", "5:5"),
    ("[[t]]\n[[t.u]]\n[[t.u]]\na = 1", ("t", 0, "u", 1, "a"), "4:1", "4:5"),
    ("[[t]]\nu.a = 1", ("t", 0, "u", "a"), "2:3", "2:7"),
    ("a = { b = 1, c = 2 }", ("a", "c"), "1:14", "1:18"),
    ("a = { b = { c.d = 2 } }", ("a", "b", "c", "d"), "1:15", "1:19"),
    ("a = {}\nb = 1", ("b",), "2:1", "2:5"),
    ("a = [1, 2]", ("a", 1), "1:9", "1:9"),
    ("a = [\n  1, # one, [\n  2,\n]\nb = 1", ("a", 1), "3:3", "3:3"),
    ("a = [\n  1, # one, [\n  2,\n]\nb = 1", ("b",), "5:1", "5:5"),
    ("a = [[1], [{ b = 2 }]]", ("a", 1, 0, "b"), "1:14", "1:18"),
    ('a = "]\\"#"\nb = 1', ("b",), "2:1", "2:5"),
    ("a = '\\'\nb = 1", ("b",), "2:1", "2:5"),
    ('a = """\nx = 1\n"" \\""" # """\nb = 1', ("b",), "4:1", "4:5"),
    ('a = """x"""""\nb = 1', ("b",), "2:1", "2:5"),
    ("a = '''\nb = 2'' \\'''\nb = 1", ("b",), "3:1", "3:5"),
    ("a = '''''x'''''\nb = 1", ("b",), "2:1", "2:5"),
    ("a = 1979-05-27 07:32:00Z\nb = 1", ("b",), "2:1", "2:5"),
    ("a = -1e3\nb = [ true, +inf, 0x_f ]", ("b", 2), "2:19", "2:19"),
    ("ä = 'µ'", (), "1:1", "1:1"),
    ("'ä' = { 'µ' = 1 }", ("ä", "µ"), "1:9", "1:15"),
]


@pytest.mark.parametrize(("text", "path", "key", "value"), PLACES)
def test_keys_and_values_are_where_they_are(text: str, path: Path, key: str, value: str) -> None:
    positions = Positions(text)
    found = positions.key(path), positions.value(path)
    assert [f"{each.line}:{each.column}" for each in found] == [key, value]
    assert positions.flaw is None


def test_what_is_not_there_is_where_the_nearest_table_around_it_is() -> None:
    positions = Positions("\n[t]\na = 1")
    assert positions.value(("t", "b", "c")) == positions.value(("t",))
    assert ("t", "b") not in positions


REPEATED = [
    ("a = 1\n\na = 2", '3:1: "a" is given twice; the first is in line 1'),
    ("[t]\na = 1\n[u]\na = 1\n[t]", '5:1: table "t" is given twice; the first is in line 1'),
    ("a = { b = 1, b = 2 }", '1:14: "b" is given twice; the first is in line 1'),
    ("a.b = 1\na = 2", '2:1: "a" is given twice; the first is in line 1'),
    ("[[t]]\na = 1\n'a' = 2", '3:1: "a" is given twice; the first is in line 2'),
    ("[t.u]\n[t]\nu = 1", '3:1: "u" is given twice; the first is in line 1'),
]


@pytest.mark.parametrize(("text", "flaw"), REPEATED)
def test_a_key_that_is_given_twice_is_a_flaw_with_both_places(text: str, flaw: str) -> None:
    found = Positions(text).flaw
    assert found is not None
    assert f"{found.position.line}:{found.position.column}: {found.message}" == flaw
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "[[t]]\na = 1\n[[t]]\na = 1",
        "[t.u]\n[t]\n[t.v]",
        "[a]\nb = 1\n[b]\nb = 1",
        "a = [{ b = 1 }, { b = 1 }]",
        "[[t]]\n[t.u]\na = 1\n[[t]]\n[t.u]\na = 1",
    ],
)
def test_the_same_key_in_different_tables_is_none(text: str) -> None:
    assert Positions(text).flaw is None
    tomllib.loads(text)


DEEP = {
    "a dotted key": f"{'a.' * DEEPEST}a = 1",
    "a header": f"[{'a.' * DEEPEST}a]",
    "arrays": f"a = {'[' * 10000}",
    "inline tables": f"{'a = {' * 10000}",
}


@pytest.mark.parametrize("kind", DEEP)
def test_what_is_nested_too_deep_is_a_flaw(kind: str) -> None:
    flaw = Positions(DEEP[kind]).flaw
    assert flaw is not None
    assert flaw.message == f"nested more than {DEEPEST} levels deep"


def test_what_is_nested_as_deep_as_it_may_is_none() -> None:
    assert Positions(f"{'a.' * (DEEPEST - 1)}a = 1").flaw is None


@pytest.mark.parametrize(("length", "flawed"), [(LONGEST_PLAIN, False), (LONGEST_PLAIN + 1, True)])
def test_a_number_that_is_too_long_is_a_flaw(length: int, flawed: bool) -> None:
    assert (Positions(f"a = {'1' * length}").flaw is not None) is flawed


@pytest.mark.parametrize(
    "text", ["a", "a =", "[t", "[[t]", "a = 'x", 'a = """x""', "a = [1", "a = { b", "=", "]", '"\\z"=1']
)
def test_a_text_that_is_no_toml_is_left_to_tomllib(text: str) -> None:
    assert Positions(text).flaw is None
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(text)
