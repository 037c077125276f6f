# SPDX-License-Identifier: GPL-2.0-or-later
"""A statically defined `struct klp_patch`, found in a module's data without debug information.

Nothing says where it is.  But its first member is the module that it belongs to, so it is where the module's data
points to `struct module`, and where what follows looks like the rest of it.  Layout: include/linux/livepatch.h; what
its comments call external has stood like this since Linux 5.4, which brought the states.

The values are the initial ones.  Code may change them before it calls klp_enable_patch(), which no reader of files can
know; where a module parameter is made for that, `replace` is unknown.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from klpd.model import VMLINUX, Format, Function, Object, State
from klpd.module.image import OutsideError
from klpd.module.structures import Patch, UnfamiliarError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from klpd.module.image import Place
    from klpd.module.structures import Structures

# Offsets in struct klp_patch
_OBJS: Final = 8
_STATES: Final = 16
_REPLACE: Final = 24
# in struct klp_state, and its size
_VERSION: Final = 8
_STATE_SIZE: Final = 24
# in struct klp_object, and its usual size
_FUNCS: Final = 8
_OBJECT_SIZE: Final = 168
# in struct klp_func, and its usual size
_NEW_FUNC: Final = 8
_OLD_SYMPOS: Final = 16
_FUNC_SIZE: Final = 152
# Both contain a struct kobject, which is larger in kernels made for debugging (CONFIG_DEBUG_KOBJECT_RELEASE).
_MORE: Final = range(0, 1024, 8)

Entry = TypeVar("Entry", State, Object, Function)


def read(structures: Structures) -> Patch | None:
    """The klp_patch in the data of a module; None if there is none.

    Nothing of it is known if more than one place looks like it.  Raises ModuleFormatError for data that leads out of
    the file.
    """
    reader = _Reader(structures)
    places = [place for place in structures.image.pointers_to(structures.module) if reader.is_patch(place)]
    if not places:
        return None
    return reader.patch(places[0]) if len(places) == 1 else Patch(Format.STATIC)


class _Reader:
    def __init__(self, structures: Structures) -> None:
        self._structures = structures
        self._image = structures.image

    def is_patch(self, place: Place) -> bool:
        """Whether a klp_patch may be at `place`: other structures begin with their module, too."""
        self._structures.count()
        objects = self._image.target(place + _OBJS)
        if objects is None or self._image.is_inside(place):
            return False
        # Zeros are no objects if there is room for the last entry only; else they are anything.
        room_for_one = (self._image.size_of(objects) or 0) - _OBJECT_SIZE in _MORE
        if not self._image.is_data(objects):
            return self._image.is_zeros(objects) and room_for_one
        try:
            first = self._object_head(objects)
            if first is None:
                return room_for_one
            if self._image.is_data(first[1]):
                self._function(first[1])
        except (UnfamiliarError, OutsideError):
            return False
        return True

    def patch(self, place: Place) -> Patch:
        """The klp_patch at `place`."""
        return Patch(
            Format.STATIC,
            self._replace(place + _REPLACE),
            self._states(place + _STATES),
            self._objects(place + _OBJS),
        )

    def _replace(self, place: Place) -> bool | None:
        value = self._image.number(place, 1)
        return None if value not in (0, 1) else bool(value)

    def _states(self, pointer: Place) -> tuple[State, ...] | None:
        if self._image.number(pointer, 8) == 0:
            return ()
        states = self._image.target(pointer)
        try:
            return None if states is None else tuple(self._array(states, _STATE_SIZE, self._state))
        except UnfamiliarError:
            return None

    def _objects(self, pointer: Place) -> tuple[Object, ...] | None:
        objects = self._image.target(pointer)
        assert objects is not None, "is_patch() has looked"
        for more in _MORE if self._image.size_of(objects) is not None else _MORE[:1]:
            try:
                return tuple(self._array(objects, _OBJECT_SIZE + more, partial(self._object, more)))
            except UnfamiliarError:
                continue
        return None

    def _array(self, start: Place, size: int, read: Callable[[Place], Entry | None]) -> Iterator[Entry]:
        """The entries of the array at `start`, of `size` bytes each, up to the one of zeros."""
        whole = self._image.size_of(start)
        if whole is not None and whole % size != 0:
            raise UnfamiliarError
        if self._image.is_zeros(start):
            # It has room for the last entry only, or else code is to fill it.
            if whole != size:
                raise UnfamiliarError
            return
        if not self._image.is_data(start):
            raise UnfamiliarError
        place = start
        while (entry := read(place)) is not None:
            self._structures.count()
            yield entry
            place += size
            if whole is not None and place.offset >= start.offset + whole:
                raise UnfamiliarError
        # Anything in what should be empty tells of entries of another size.
        for empty in range(0, size if whole is None else start.offset + whole - place.offset, size):
            self._structures.count()
            if read(place + empty) is not None or self._image.is_relocated(place + empty, size):
                raise UnfamiliarError

    def _state(self, place: Place) -> State | None:
        state_id = self._image.number(place, 8)
        version = self._image.number(place + _VERSION, 4)
        if state_id is None or version is None:
            raise UnfamiliarError
        return State(state_id, version) if state_id else None

    def _object_head(self, place: Place) -> tuple[str, Place] | None:
        name = self._structures.string(place)
        functions = self._image.target(place + _FUNCS)
        if functions is None:
            if name is None and self._image.number(place + _FUNCS, 8) == 0:
                return None
            raise UnfamiliarError
        return VMLINUX if name is None else name, functions

    def _object(self, more: int, place: Place) -> Object | None:
        head = self._object_head(place)
        if head is None:
            return None
        name, start = head
        functions = tuple(self._array(start, _FUNC_SIZE + more, self._function))
        return Object(name, functions, self._structures.callbacks(place))

    def _function(self, place: Place) -> Function | None:
        return self._structures.function(place, place + _NEW_FUNC, place + _OLD_SYMPOS)
