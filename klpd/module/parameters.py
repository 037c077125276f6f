# SPDX-License-Identifier: GPL-2.0-or-later
"""The parameters of a module, and what values that are given for them change in its data.

struct kernel_param in include/linux/moduleparam.h, in the section __param; what becomes of a value: parse_args and the
param_set_* functions in kernel/params.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from klpd.errors import UsageError
from klpd.module.image import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from klpd.module.elf import Elf
    from klpd.module.image import Image

_SIZE: Final = 40
_NAME: Final = 0
_OPERATIONS: Final = 16
_VALUE: Final = 32
_MOST: Final = 4096
"""Parameters of a module that are read."""
_OF_ALL: Final = frozenset({"dyndbg", "async_probe"})
"""Those that every module has (unknown_module_param_cb in kernel/module/main.c)."""
_WORD: Final = re.compile(r"([A-Za-z0-9_.-]+)=([^\"\0\n]*)")
# By the names of struct kernel_param_ops: how many bytes, and whether of a signed number.
_NUMBERS: Final = {
    "param_ops_byte": (1, False),
    "param_ops_short": (2, True),
    "param_ops_ushort": (2, False),
    "param_ops_int": (4, True),
    "param_ops_uint": (4, False),
    "param_ops_hexint": (4, False),
    "param_ops_long": (8, True),
    "param_ops_ulong": (8, False),
    "param_ops_ullong": (8, False),
}
_TRUTHS: Final = {"param_ops_bool": False, "param_ops_invbool": True}
"""Whether the opposite of the value is kept."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter, and where its value goes; None where nothing tells.

    `kind` names its struct kernel_param_ops; empty where that is the module's own.
    """

    name: str
    kind: str
    value: Place | None


def read_parameters(elf: Elf, image: Image) -> tuple[Parameter, ...]:
    """The parameters.  Raises ModuleFormatError for what leads out of the file."""
    found = []
    for section in elf.named(b"__param"):
        for at in range(0, min(section.size, _MOST * _SIZE) - _SIZE + 1, _SIZE):
            place = Place(section.index, at)
            name = image.target(place + _NAME)
            found.append(
                Parameter(
                    "" if name is None or not image.is_data(name) else image.string(name),
                    image.imported(place + _OPERATIONS),
                    image.target(place + _VALUE),
                )
            )
    return tuple(found)


def set_values(
    image: Image, parameters: Sequence[Parameter], given: Sequence[str], known: frozenset[str]
) -> tuple[Parameter, ...]:
    """Put what is `given`, as NAME=VALUE, into the module's data; the parameters that may be anything all the same.

    Those that are not given stay as the file has them.  `known` are names of parameters that the file tells elsewhere.
    Raises UsageError for what is no parameter of the module, or no value of its kind.
    """
    open_ones = []
    seen: set[str] = set()
    for word in given:
        name, value = _split(word)
        if name in seen:
            raise UsageError(f"parameter {name} is given more than once")
        seen.add(name)
        meant = [each for each in parameters if _canonical(each.name) == name]
        if not meant and name not in _OF_ALL and name not in {_canonical(each) for each in known}:
            own = ", ".join(sorted({each.name for each in parameters if each.name} | known)) or "none"
            raise UsageError(f"the module has no parameter {name}; it has: {own}")
        for each in meant:
            content = _content(each.kind, value, word, image.order)
            if content is None or each.value is None:
                open_ones.append(each)
            else:
                image.put(each.value, content)
    return tuple(open_ones)


def kernel_string(given: Sequence[str]) -> str:
    """NAME=VALUE words as finit_module(2) takes them: a value with blanks in quotes (next_arg in lib/cmdline.c)."""
    words = []
    for word in given:
        name, _equals, value = word.partition("=")
        words.append(f'{name}="{value}"' if re.search(r"\s", value) else word)
    return " ".join(words)


def _split(word: str) -> tuple[str, str]:
    match = _WORD.fullmatch(word)
    if match is None:
        raise UsageError(f"{word!r} is no parameter; write NAME=VALUE, without quotes in the value")
    return _canonical(match[1]), match[2]


def _canonical(name: str) -> str:
    return name.replace("-", "_")  # parameq in kernel/params.c


def _content(kind: str, value: str, word: str, order: str) -> bytes | None:
    """The bytes that a value becomes; None where it is no number, or the module's own code makes something of it."""
    if kind in _TRUTHS:
        return bytes([_truth(value, word) is not _TRUTHS[kind]])
    if kind not in _NUMBERS:
        return None
    size, signed = _NUMBERS[kind]
    number = _number(value, word, signed=signed)
    try:
        return number.to_bytes(size, "little" if order == "<" else "big", signed=signed)
    except OverflowError:
        raise UsageError(f"{word}: the kernel keeps {size} bytes of it, and it does not fit") from None


def _truth(value: str, word: str) -> bool:
    """kstrtobool in lib/kstrtox.c, but for what newer kernels alone understand."""
    match value[:1].lower():
        case "y" | "1":
            return True
        case "n" | "0":
            return False
        case "o" if value[1:2].lower() == "n":
            return True
        case "o" if value[1:2].lower() == "f":
            return False
    raise UsageError(f"{word}: the kernel takes y, n, 1, 0, on and off")


def _number(value: str, word: str, *, signed: bool) -> int:
    """kstrtoull and its like in lib/kstrtox.c, with base 0."""
    match = re.fullmatch(r"(-?)\+?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)", value, re.ASCII)
    if match is None or (match[1] and (not signed or "+" in value)):
        raise UsageError(f"{word}: that is no {'' if signed else 'unsigned '}number (decimal, 0x... or octal 0...)")
    digits = match[2].lower()
    base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10
    return int(digits, base) * (-1 if match[1] else 1)
