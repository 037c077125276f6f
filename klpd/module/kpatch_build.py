# SPDX-License-Identifier: GPL-2.0-or-later
"""What kpatch-build makes: tables of functions and callbacks, from which its init code allocates a klp_patch.

Layout: kpatch's kmod/patch/kpatch-patch.h, kpatch-macros.h and kpatch.lds.S.  What becomes of the tables:
kmod/patch/livepatch-patch-hook.c (patch_init).  It never sets `states` of the klp_patch, which is all zeros at first,
so there are none; `replace` is a constant in its code (KLP_REPLACE_ENABLE) that no data tells.  The section
.kpatch.force (KPATCH_FORCE_UNSAFE) is for kpatch's former core module: the hook does not look at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.model import Callback, Format, Object
from klpd.module.image import Place
from klpd.module.structures import Patch, UnfamiliarError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.model import Function
    from klpd.module.structures import Structures

# Offsets in struct kpatch_patch_func, and its size
_NEW_ADDR: Final = 0
_SYMPOS: Final = 32
_NAME: Final = 40
_OBJECT_NAME: Final = 48
_FUNC_SIZE: Final = 56
# in struct kpatch_pre_patch_callback and its like, and their size
_CALLBACK: Final = 0
_CALLBACK_OBJECT_NAME: Final = 8
_CALLBACK_SIZE: Final = 16
_PREFIX: Final = b".kpatch."
_KNOWN: Final = tuple(
    _PREFIX + each
    for each in (
        b"funcs",
        b"strings",
        b"callbacks.",
        b"force",
        b"checksum",
        b"ignore.",
        b"symbols",
        b"relocations",
        b"arch",
    )
)
_PADDING: Final = 8
"""In bytes: the linker script ends each section of callbacks with a number of zeros."""


def read(structures: Structures) -> Patch | None:
    """What the tables say; None where there are none, and just the format where they are laid out some other way."""
    if not any(True for _ in structures.elf.named(b".kpatch.funcs")):
        return None
    try:
        objects = tuple(_objects(structures))
    except UnfamiliarError:
        return Patch(Format.KPATCH_BUILD)
    # A fork's sections may have states in them, and its code knows what to do with them.
    states = None if any(_unknown_sections(structures)) else ()
    return Patch(Format.KPATCH_BUILD, replace=None, states=states, objects=objects)


def _unknown_sections(structures: Structures) -> Iterator[bytes]:
    for section in structures.elf.sections:
        name = structures.elf.name_of(section)
        if name.startswith(_PREFIX) and not name.startswith(_KNOWN):
            yield name


def _objects(structures: Structures) -> Iterator[Object]:
    functions: dict[str, list[Function]] = {}
    callbacks: dict[str, list[Callback]] = {}
    for name, function in _functions(structures):
        functions.setdefault(name, []).append(function)
    for callback in Callback:
        for name in _callback_objects(structures, callback):
            if callback in callbacks.setdefault(name, []):
                # patch_init() fails, and no livepatch comes of it.
                raise UnfamiliarError
            callbacks[name].append(callback)
    for name in dict.fromkeys((*functions, *callbacks)):
        yield Object(name, tuple(functions.get(name, ())), tuple(callbacks.get(name, ())))


def _functions(structures: Structures) -> Iterator[tuple[str, Function]]:
    section = structures.section(b".kpatch.funcs")
    if section is None:
        return
    if section.size % _FUNC_SIZE:
        raise UnfamiliarError
    for offset in range(0, section.size, _FUNC_SIZE):
        structures.count()
        place = Place(section.index, offset)
        name = structures.string(place + _OBJECT_NAME)
        function = structures.function(place + _NAME, place + _NEW_ADDR, place + _SYMPOS)
        if name is None or function is None:
            raise UnfamiliarError
        yield name, function


def _callback_objects(structures: Structures, callback: Callback) -> Iterator[str]:
    """The names of the objects that have this callback."""
    section = structures.section(b".kpatch.callbacks." + callback.encode())
    if section is None:
        return
    count, rest = divmod(section.size, _CALLBACK_SIZE)
    if rest not in (0, _PADDING):
        raise UnfamiliarError
    for offset in range(0, count * _CALLBACK_SIZE, _CALLBACK_SIZE):
        structures.count()
        place = Place(section.index, offset)
        code, name = structures.image.target(place + _CALLBACK), structures.string(place + _CALLBACK_OBJECT_NAME)
        if code is None or not structures.image.is_code(code) or name is None:
            raise UnfamiliarError
        yield name
