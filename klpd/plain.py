# SPDX-License-Identifier: GPL-2.0-or-later
"""Dataclasses to plain values (what JSON can say) and back: one shape for --json, D-Bus and the files in /var/lib/klpd.

An absent value is an absent key.  Reading checks every type and names the place of what does not fit.
"""

from __future__ import annotations

import reprlib
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache

from klpd.errors import KlpdError

Plain = bool | int | float | str | list["Plain"] | dict[str, "Plain"]
T = typing.TypeVar("T")


class PlainError(KlpdError):
    """Plain values that do not have the shape asked for."""

    dbus_name = "org.klpd1.Error.BadValue"


def to_utf8(text: str) -> str:
    """`text` as D-Bus can carry it, which takes UTF-8 only: bytes of a name that are none are written out (\\udcff)."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def to_plain(value: object) -> Plain:
    """`value`, a tree of dataclasses, enums, tuples, mappings and scalars, as plain values."""
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((name, getattr(value, name)) for name in _field_names(type(value)))
        return {name: to_plain(item) for name, item in pairs if item is not None}
    if isinstance(value, Enum):
        return to_plain(value.value)
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list | frozenset | set):
        return [to_plain(item) for item in (value if isinstance(value, tuple | list) else sorted(value))]
    if isinstance(value, typing.Mapping):
        return {str(key): to_plain(item) for key, item in value.items() if item is not None}
    raise TypeError(f"{type(value).__name__} has no plain form")


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def from_plain(wanted: type[T], plain: object, *, place: str = "value") -> T:
    """The `wanted` dataclass (or enum, tuple, scalar) that `to_plain` made `plain` of.

    Keys that `wanted` does not know are passed over, so that an older reader understands a newer writer.

    Raises PlainError where a required key is missing or a value has another type.
    """
    return typing.cast("T", _read(wanted, plain, place))


def _read(wanted: object, plain: object, place: str) -> object:
    origin = typing.get_origin(wanted)
    if origin in (typing.Union, types.UnionType):
        choices = [each for each in typing.get_args(wanted) if each is not types.NoneType]
        if len(choices) != 1:
            raise TypeError(f"{wanted} has no one plain form")
        return _read(choices[0], plain, place)
    if origin is tuple:
        item, *rest = typing.get_args(wanted)
        if rest != [...]:
            raise TypeError(f"{wanted} has no plain form: its items are not all of one type")
        return tuple(_read(item, each, f"{place}[{index}]") for index, each in enumerate(_checked(plain, list, place)))
    if not isinstance(wanted, type):
        raise TypeError(f"{wanted} has no plain form")
    if is_dataclass(wanted):
        return _read_dataclass(wanted, _checked(plain, dict, place), place)
    if issubclass(wanted, Enum):
        return _read_enum(wanted, plain, place)
    if wanted is float and isinstance(plain, int) and not isinstance(plain, bool):
        try:
            return float(plain)
        except OverflowError:
            raise PlainError(f"{place}: the integer is too large for a float") from None
    return _checked(plain, wanted, place)


def _read_enum(wanted: type[Enum], plain: object, place: str) -> Enum:
    members: dict[object, Enum] = {each.value: each for each in wanted}
    value = _checked(plain, type(next(iter(members))), place)
    if value not in members:
        raise PlainError(f"{place}: {reprlib.repr(value)} is none of {', '.join(map(str, members))}")
    return members[value]


def _read_dataclass(wanted: type, plain: dict[str, object], place: str) -> object:
    hints = _hints(wanted)
    values = {}
    for each in fields(wanted):
        if each.name in plain:
            values[each.name] = _read(hints[each.name], plain[each.name], f"{place}.{each.name}")
        elif types.NoneType in typing.get_args(hints[each.name]):
            values[each.name] = None
        elif each.default is MISSING and each.default_factory is MISSING:
            raise PlainError(f"{place}: {each.name} is missing")
    return wanted(**values)


@cache
def _hints(kind: type) -> dict[str, object]:
    # Each annotation is a string that has to be compiled.
    return typing.get_type_hints(kind)


def _checked(plain: object, wanted: type[T], place: str) -> T:
    if not isinstance(plain, wanted) or (isinstance(plain, bool) and wanted is not bool):
        raise PlainError(f"{place}: {wanted.__name__} wanted, {type(plain).__name__} found")
    return plain
