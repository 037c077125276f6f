# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel's own klp-build makes (Linux 6.19): arrays from which its init code allocates a klp_patch.

Layout: include/linux/livepatch_external.h; written by tools/objtool/klp-diff.c (create_klp_sections), read by
scripts/livepatch/init.c.  The latter never sets `states` of the klp_patch, which is all zeros at first, so there are
none; `replace` is a constant in its code (KLP_NO_REPLACE) that no data tells.  The arrays' structures are between these
two: no kernel uses them, and so none has them in its BTF.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.layout import CALLBACKS
from klpd.model import Format, Object
from klpd.module.image import Place
from klpd.module.structures import Patch, UnfamiliarError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.model import Function
    from klpd.module.structures import Structures

_OBJECTS: Final = (b"__klp_objects", b".init.klp_objects")
"""The section's name in Linux 6.19 and since 7.0.  With 6.19 any module has one, empty where it is not of this format
("livepatch: Fix having __klp_objects relics in non-livepatch modules")."""

# Offsets in struct klp_object_ext, and its size
_FUNCS: Final = 8
_NR_FUNCS: Final = 56
_OBJECT_SIZE: Final = 64
# in struct klp_func_ext, and its size
_NEW_FUNC: Final = 8
_SYMPOS: Final = 16
_FUNC_SIZE: Final = 24


def read(structures: Structures) -> Patch | None:
    """What the arrays say; None where there are none, and just the format where they are laid out some other way."""
    try:
        section = structures.section(*_OBJECTS)
        if section is None:
            return None
        if section.size % _OBJECT_SIZE:
            raise UnfamiliarError
        places = (Place(section.index, offset) for offset in range(0, section.size, _OBJECT_SIZE))
        objects = tuple(_object(structures, place) for place in places)
    except UnfamiliarError:
        return Patch(Format.KLP_BUILD)
    return Patch(Format.KLP_BUILD, replace=None, states=(), objects=objects)


def _object(structures: Structures, place: Place) -> Object:
    structures.count()
    name, misnamed = structures.object_name(place)
    count = structures.image.number(place + _NR_FUNCS, 4)
    start = structures.image.target(place + _FUNCS)
    if count is None or start is None or not structures.image.is_data(start):
        raise UnfamiliarError
    functions = tuple(_functions(structures, start, count))
    return Object(name, functions, structures.callbacks(place, CALLBACKS), misnamed)


def _functions(structures: Structures, start: Place, count: int) -> Iterator[Function]:
    for index in range(count):
        structures.count()
        place = start + index * _FUNC_SIZE
        function = structures.function(place, place + _NEW_FUNC, place + _SYMPOS)
        if function is None:
            raise UnfamiliarError
        yield function
