# SPDX-License-Identifier: GPL-2.0-or-later
"""Laws of the index of positions, with tomllib as the judge of what is in a text."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Final

from hypothesis import event, given, settings
from hypothesis import strategies as st

from klpd.policy.positions import DEEPEST, Positions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.policy.positions import Path, Position

SCALARS: Final = (
    *("1", "-17", "0x1f", "0b1", "1_000", "1.5", "-1e-3", "inf", "+nan", "true", "false"),
    *("1979-05-27", "07:32:00", "1979-05-27 07:32:00", "1979-05-27T07:32:00.999-07:00"),
    *('""', '"a"', '"\\""', '"# ] } ="', '"\\\\"', "''", "'\\'", "'\"'", '"\\u00e4"', "'µ'"),
    *('"""a"""', '"""\n[t]\na = 1\n"""', '"""\\"""\\\n  x"""', '"""a"" ""b"""""', '""""""', '"""\\\\"""'),
    *("'''a'''", "'''\na = '' # '\n'''", "''''a'''''", "''''''"),
)
GAPS: Final = ("", " ", "\t", "\n", " # x, ] } =\n", "\n\n  ")
BLANKS: Final = ("", " ", "  ", "\t")
ENDS: Final = ("\n", " \n", "\n\n", " # [x] = 1\n", "#'\n\t")
keys = st.sampled_from(["a", "b", "c", "a-1", "7", '"a"', "'b'", '"c d"', '"\\u0061"', "'.'", '""', '"#"'])
gaps = st.sampled_from(GAPS)
blanks = st.sampled_from(BLANKS)


@st.composite
def dotted(draw: st.DrawFn) -> str:
    parts = draw(st.lists(keys, min_size=1, max_size=3))
    return "".join(f"{part}{draw(blanks)}.{draw(blanks)}" for part in parts[:-1]) + parts[-1]


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    elements = draw(st.lists(values, max_size=3))
    inside = ",".join(f"{draw(gaps)}{each}{draw(gaps)}" for each in elements)
    comma = "," + draw(gaps) if draw(st.booleans()) and elements else ""
    return f"[{inside or draw(gaps)}{comma}]"


@st.composite
def inline_tables(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    pairs = draw(st.lists(st.tuples(dotted(), values), max_size=3))
    return "{" + ",".join(f"{draw(blanks)}{key}{draw(blanks)}={draw(blanks)}{value} " for key, value in pairs) + "}"


values = st.recursive(st.sampled_from(SCALARS), lambda inner: arrays(inner) | inline_tables(inner), max_leaves=6)


@st.composite
def statements(draw: st.DrawFn) -> str:
    match draw(st.sampled_from(["key", "key", "key", "table", "array of tables"])):
        case "table":
            return f"{draw(blanks)}[{draw(blanks)}{draw(dotted())}{draw(blanks)}]"
        case "array of tables":
            return f"{draw(blanks)}[[{draw(blanks)}{draw(dotted())}{draw(blanks)}]]"
        case _:
            return f"{draw(blanks)}{draw(dotted())}{draw(blanks)}={draw(blanks)}{draw(values)}"


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Texts that tomllib takes: a statement that it would not take after those before it is left out."""
    text = draw(st.sampled_from(ENDS))
    for _ in range(draw(st.integers(1, 8))):
        longer = text + draw(statements()) + draw(st.sampled_from(ENDS))
        if parsed(longer) is not None:
            text = longer
    return text


texts = st.lists(
    st.sampled_from([*"ab.=[]{}\",'#\\ \n\r\t10\0", "[[", "]]", '"""', "'''", "a = ", "\\\n"]), max_size=25
).map("".join)
"""Texts of which tomllib takes some."""


def parsed(text: str) -> dict[str, object] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def paths(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """All that is in a value, with the way to it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key), inner
            yield from paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield (*path, index), inner
            yield from paths(inner, (*path, index))


def rest(text: str, position: Position) -> str:
    """What is in `text` from a position on."""
    lines = text.split("\n")[position.line - 1 :]
    return "\n".join([lines[0][position.column - 1 :], *lines[1:]])


def begins_with_key(text: str, key: str) -> bool:
    """Whether a text begins with a key of this meaning."""
    ends = [at for at in range(1, len(text) + 1) if (found := parsed(f"{text[:at]} = 1")) and set(found) == {key}]
    return bool(ends)


def begins_with_value(text: str, value: object) -> bool:
    """Whether a text begins with a value of this meaning."""
    return any(repr((parsed(f"a = {text[:at]}") or {}).get("a")) == repr(value) for at in range(1, len(text) + 1))


@given(documents())
def test_everything_that_tomllib_finds_is_where_the_index_says(text: str) -> None:
    positions = Positions(text)
    assert positions.flaw is None
    for path, value in paths(parsed(text)):
        assert path in positions
        if isinstance(path[-1], str):
            assert begins_with_key(rest(text, positions.key(path)), path[-1])
        if not isinstance(value, dict | list):
            assert begins_with_value(rest(text, positions.value(path)), value)


@settings(max_examples=1000)
@given(texts)
def test_whatever_tomllib_takes_the_index_has_whole_and_without_a_flaw(text: str) -> None:
    found = parsed(text)
    positions = Positions(text.replace("\r\n", "\n"))
    event("TOML" if found is not None else "no TOML")
    if found is not None:
        inside = list(paths(found))
        assert all(len(path) <= DEEPEST for path, _ in inside)
        assert positions.flaw is None
        assert all(path in positions for path, _ in inside)
