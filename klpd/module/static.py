# SPDX-License-Identifier: GPL-2.0-or-later
"""A statically defined `struct klp_patch`, found in a module's data without debug information.

Nothing says where it is.  But it points to the module that it belongs to, so it is where the module's data points to
`struct module`, and where what is around that looks like the rest of it.

Where everything is in it, and how long the entries of its arrays are, is told by the kernel that the module is for
(klpd/layout.py).  Where that does not tell the entries' length, it is what fits the arrays.

The values are the initial ones.  Code may change them before it calls klp_enable_patch(), and so may a module
parameter: what either leads to (klpd.module.traces) is unknown.  What is assumed: code that is given the klp_patch by
its address does with it what klp_enable_patch() does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from klpd.model import Format, Function, Object, State
from klpd.module.image import OutsideError, Place
from klpd.module.structures import Patch, UnfamiliarError
from klpd.module.traces import Traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from klpd.layout import Layout, StateLayout
    from klpd.module.structures import Structures


class _Sizes(NamedTuple):
    """Of a struct klp_object and a struct klp_func."""

    object: int
    function: int


@dataclass(frozen=True, slots=True)
class _Extent:
    """An array that was read, whose entries have `entry` bytes each."""

    start: Place
    entry: int
    size: int


# The usual ones, and how much larger both may be.
_USUAL: Final = _Sizes(168, 152)
_MORE: Final = range(0, 1024, 8)

Entry = TypeVar("Entry", State, Object, Function)


def read(structures: Structures) -> Patch | None:
    """The klp_patch in the data of a module; None if there is none.

    Nothing of it is known if more than one place looks like it, nor, where the kernel's structures are not understood,
    if there may be one.  Raises ModuleFormatError for data that leads out of the file.
    """
    pointers = structures.image.pointers_to(structures.module)
    first = next(pointers, None)
    if first is None:
        return None
    kernel = structures.layout()
    if kernel.layout is None:
        return Patch(layout=kernel.source)
    reader = _Reader(structures, kernel.layout)
    starts = (pointer + -kernel.layout.patch.mod for pointer in chain((first,), pointers))
    places = [place for place in starts if reader.is_patch(place)]
    if not places:
        return None
    found = reader.patch(places[0]) if len(places) == 1 else Patch(Format.STATIC)
    return replace(found, layout=kernel.source)


class _Reader:
    def __init__(self, structures: Structures, layout: Layout) -> None:
        self._structures = structures
        self._image = structures.image
        self._layout = layout
        self._sizes = _possible_sizes(layout)
        self._object_sizes = frozenset(each.object for each in self._sizes)
        self._traces = Traces(structures.elf, structures.image, structures.parameters)
        self._extents: list[_Extent] = []  # of the arrays that were read

    def is_patch(self, place: Place) -> bool:
        """Whether a klp_patch may be at `place`: other structures point to their module, too."""
        self._structures.count()
        if place.offset < 0 or not self._has_room(place):
            return False
        objects = self._image.target(place + self._layout.patch.objs)
        if objects is None or self._image.is_inside(place):
            return False
        # Zeros are no objects if there is room for the last entry only; else they are anything.
        room_for_one = self._image.size_of(objects) in self._object_sizes
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

    def _has_room(self, place: Place) -> bool:
        """Whether a whole klp_patch fits where its place is, as far as is known how large it is."""
        needed = self._layout.patch.size
        if needed is None:
            return True
        size = self._image.size_of(place)
        try:
            self._image.number(place + (needed - 1), 1)
        except OutsideError:
            return False
        return size is None or size >= needed

    def patch(self, place: Place) -> Patch:
        """The klp_patch at `place`."""
        at = self._layout.patch
        return Patch(
            Format.STATIC,
            None if at.replace is None else self._replace(place, at.replace),
            None if at.states is None else self._states(place, at.states),
            None if self._layout.object.callbacks is None else self._objects(place, at.objs),
        )

    def _may_change(self, patch: Place, at: int, size: int) -> bool:
        """Whether code or a parameter leads into a member of the klp_patch.

        What leads to the klp_patch itself is what klp_enable_patch() and its like are given.
        """
        return any(at + trace.start != 0 for trace in self._traces.into(patch + at, size))

    def _is_untouched(self, own: int | None = None) -> bool:
        """Whether neither code nor a parameter leads into the arrays that were read.

        Of each entry, only the first `own` bytes matter; None: all do.
        """
        return not any(self._touches(each, own) for each in self._extents)

    def _touches(self, array: _Extent, own: int | None) -> bool:
        if own is None:
            return self._traces.touch(array.start, array.size)
        return any(
            trace.start < 0 or trace.start % array.entry < own or len(trace) > array.entry - trace.start % array.entry
            for trace in self._traces.into(array.start, array.size)
        )

    def _replace(self, patch: Place, at: int) -> bool | None:
        value = self._image.number(patch + at, 1)
        return None if value not in (0, 1) or self._may_change(patch, at, 1) else bool(value)

    def _states(self, patch: Place, at: int) -> tuple[State, ...] | None:
        pointer = patch + at
        if self._may_change(patch, at, 8):
            return None
        if self._image.number(pointer, 8) == 0:
            return ()
        states, layout = self._image.target(pointer), self._layout.state
        if states is None or layout is None:
            return None
        self._extents.clear()
        try:
            found = tuple(self._array(states, layout.size, partial(self._state, layout)))
        except UnfamiliarError:
            return None
        return found if self._is_untouched(max(layout.id + 8, layout.version + 4)) else None

    def _objects(self, patch: Place, at: int) -> tuple[Object, ...] | None:
        objects = self._image.target(patch + at)
        assert objects is not None, "is_patch() has looked"
        if self._may_change(patch, at, 8):
            return None
        # Where nothing tells how long an array is, nothing tells which size fits.
        for sizes in self._sizes if self._image.size_of(objects) is not None else self._sizes[:1]:
            self._extents.clear()
            try:
                found = tuple(self._array(objects, sizes.object, partial(self._object, sizes)))
            except UnfamiliarError:
                continue
            return found if self._is_untouched() else None
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
            self._extents.append(_Extent(start, size, size))
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
        self._extents.append(_Extent(start, size, place.offset + size - start.offset if whole is None else whole))
        # Anything in what should be empty tells of entries of another size.
        for empty in range(0, size if whole is None else start.offset + whole - place.offset, size):
            self._structures.count()
            if read(place + empty) is not None or self._image.is_relocated(place + empty, size):
                raise UnfamiliarError

    def _state(self, layout: StateLayout, place: Place) -> State | None:
        state_id = self._image.number(place + layout.id, 8)
        version = self._image.number(place + layout.version, 4)
        if state_id is None or version is None:
            raise UnfamiliarError
        return State(state_id, version) if state_id else None

    def _object_head(self, place: Place) -> tuple[Place, Place] | None:
        """Where the pointer to its name is, and where its functions are."""
        name = place + self._layout.object.name
        functions = self._image.target(place + self._layout.object.funcs)
        unnamed = self._structures.string(name) is None
        if functions is None:
            if unnamed and self._image.number(place + self._layout.object.funcs, 8) == 0:
                return None
            raise UnfamiliarError
        return name, functions

    def _object(self, sizes: _Sizes, place: Place) -> Object | None:
        head = self._object_head(place)
        if head is None:
            return None
        name_at, start = head
        name, misnamed = self._structures.object_name(name_at)
        functions = tuple(self._array(start, sizes.function, self._function))
        callbacks = self._structures.callbacks(place, self._layout.object.callbacks or ())
        return Object(name, functions, callbacks, misnamed)

    def _function(self, place: Place) -> Function | None:
        at = self._layout.function
        return self._structures.function(place + at.old_name, place + at.new_func, place + at.old_sympos)


def _possible_sizes(layout: Layout) -> tuple[_Sizes, ...]:
    """The most likely first."""
    if layout.object.size is not None and layout.function.size is not None:
        return (_Sizes(layout.object.size, layout.function.size),)
    return tuple(_Sizes(_USUAL.object + more, _USUAL.function + more) for more in _MORE)
