# SPDX-License-Identifier: GPL-2.0-or-later
"""Plain values: what dataclasses become for JSON and D-Bus, and what becomes a dataclass again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

import pytest

from klpd.model import Livepatch, State
from klpd.plain import PlainError, from_plain, to_plain
from tests.builders import livepatch

if TYPE_CHECKING:
    from klpd.plain import Plain


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class Number(IntEnum):
    ONE = 1


@dataclass(frozen=True, slots=True)
class Leaf:
    name: str
    size: int = 1
    note: str | None = "none was given"


@dataclass(frozen=True, slots=True)
class Tree:
    leaf: Leaf
    leaves: tuple[Leaf, ...] = ()
    colour: Colour = Colour.RED
    part: float = 0.0
    good: bool = False
    sizes: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Odd:
    """A dataclass with something that has no plain form."""

    what: object


@dataclass(frozen=True, slots=True)
class Pair:
    both: tuple[int, str]


# --- To plain ---


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (True, True),
        (7, 7),
        (0.5, 0.5),
        ("text", "text"),
        (Colour.GREEN, "green"),
        (Number.ONE, 1),
        ((1, (2, 3)), [1, [2, 3]]),
        ([1, 2], [1, 2]),
        (frozenset({3, 1, 2}), [1, 2, 3]),
        ({Colour.RED: 1, "x": None}, {"red": 1}),
        (Leaf("a"), {"name": "a", "size": 1, "note": "none was given"}),
        (Leaf("a", note=None), {"name": "a", "size": 1}),
        (State(1, 2), {"id": 1, "version": 2}),
    ],
    ids=repr,
)
def test_the_plain_form_of(value: object, plain: Plain) -> None:
    made = to_plain(value)
    assert made == plain
    assert json.loads(json.dumps(made)) == plain


def test_a_nested_value_is_plain_all_through() -> None:
    tree = Tree(Leaf("a"), (Leaf("b", 2, None),), Colour.GREEN, 0.5, True, (1, 2))
    assert to_plain(tree) == {
        "leaf": {"name": "a", "size": 1, "note": "none was given"},
        "leaves": [{"name": "b", "size": 2}],
        "colour": "green",
        "part": 0.5,
        "good": True,
        "sizes": [1, 2],
    }


@pytest.mark.parametrize(
    "value",
    [None, b"bytes", object(), Odd(b"bytes"), (None,), Leaf],
    ids=["None", "bytes", "an object", "an object with bytes in it", "None in a tuple", "a class"],
)
def test_what_has_no_plain_form_is_an_error_of_the_program(value: object) -> None:
    with pytest.raises(TypeError, match="has no plain form"):
        to_plain(value)


# --- From plain ---


def test_a_value_is_read_back() -> None:
    tree = Tree(Leaf("a"), (Leaf("b", 2, None),), Colour.GREEN, 0.5, True, (1, 2))
    assert from_plain(Tree, to_plain(tree)) == tree


def test_an_absent_key_means_the_default_and_none_where_none_is_possible() -> None:
    assert from_plain(Leaf, {"name": "a"}) == Leaf("a", 1, None)
    assert from_plain(Tree, {"leaf": {"name": "a"}}) == Tree(Leaf("a", 1, None))


def test_unknown_keys_of_a_newer_writer_are_passed_over() -> None:
    assert from_plain(Leaf, {"name": "a", "colour": "red", "deep": [[[{}]]]}) == Leaf("a", 1, None)


def test_an_integer_will_do_for_a_float() -> None:
    read = from_plain(Tree, {"leaf": {"name": "a"}, "part": 1})
    assert (read.part, type(read.part)) == (1.0, float)


_LEAF: dict[str, Plain] = {"name": "a"}


@pytest.mark.parametrize(
    ("plain", "complaint"),
    [
        ([], "value: dict wanted, list found"),
        (None, "value: dict wanted, NoneType found"),
        ({}, "value: leaf is missing"),
        ({"leaf": {}}, "value.leaf: name is missing"),
        ({"leaf": {"name": 1}}, "value.leaf.name: str wanted, int found"),
        ({"leaf": {"name": "a", "size": True}}, "value.leaf.size: int wanted, bool found"),
        ({"leaf": {"name": "a", "size": 1.0}}, "value.leaf.size: int wanted, float found"),
        ({"leaf": {"name": "a", "note": None}}, "value.leaf.note: str wanted, NoneType found"),
        ({"leaf": _LEAF, "leaves": {}}, "value.leaves: list wanted, dict found"),
        ({"leaf": _LEAF, "leaves": "ab"}, "value.leaves: list wanted, str found"),
        ({"leaf": _LEAF, "leaves": [_LEAF, 1]}, "value.leaves[1]: dict wanted, int found"),
        ({"leaf": _LEAF, "good": 1}, "value.good: bool wanted, int found"),
        ({"leaf": _LEAF, "part": "0"}, "value.part: float wanted, str found"),
        ({"leaf": _LEAF, "part": True}, "value.part: float wanted, bool found"),
        ({"leaf": _LEAF, "part": 10**400}, "value.part: the integer is too large for a float"),
        ({"leaf": _LEAF, "colour": "blue"}, "value.colour: 'blue' is none of red, green"),
        ({"leaf": _LEAF, "colour": 1}, "value.colour: str wanted, int found"),
        ({"leaf": _LEAF, "colour": ["red"]}, "value.colour: str wanted, list found"),
        ({"leaf": _LEAF, "sizes": [1, "2"]}, "value.sizes[1]: int wanted, str found"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_does_not_fit_is_named_with_its_place(plain: object, complaint: str) -> None:
    with pytest.raises(PlainError) as caught:
        from_plain(Tree, plain)
    assert str(caught.value) == complaint


def test_the_place_begins_with_what_the_caller_calls_the_value() -> None:
    with pytest.raises(PlainError, match=r"^history\.json: leaf is missing$"):
        from_plain(Tree, {}, place="history.json")


def _nested(depth: int) -> object:
    value: object = "red"
    for _level in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "monster",
    [_nested(100_000), 10**10_000, "x" * 1_000_000],
    ids=["deeply nested", "huge integer", "long text"],
)
def test_a_monster_in_any_place_is_one_short_complaint(monster: object) -> None:
    for plain in (
        monster,
        {"leaf": monster},
        {"leaf": _LEAF, "leaves": [monster]},
        {"leaf": _LEAF, "colour": monster},
        {"leaf": _LEAF, "good": monster},
    ):
        with pytest.raises(PlainError) as caught:
            from_plain(Tree, plain)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize("wanted", [Pair, Mapping[str, int], int | str], ids=str)
def test_asking_for_what_has_no_plain_form_is_an_error_of_the_program(wanted: type) -> None:
    with pytest.raises(TypeError, match="plain form"):
        from_plain(wanted, {"both": [1, "a"]})


def test_an_absent_value_of_the_model_stays_unknown() -> None:
    unknown = livepatch("klp_a", None, replace=None)
    plain = to_plain(unknown)
    assert isinstance(plain, dict)
    assert not {"states", "replace", "description"} & plain.keys()
    assert from_plain(Livepatch, plain) == unknown
