# SPDX-License-Identifier: GPL-2.0-or-later
"""How many symbols of a name the kernel has, in itself or in a module: what klp_find_object_symbol
(kernel/livepatch/core.c) looks for.

/proc/kallsyms shows the same symbols as the kernel looks through, to whoever may not know their addresses, too.  It has
some hundred thousand lines, so it is read in pieces, and of an object that was asked for no more is kept than a number
for each of its symbols: those of the kernel itself stay the same until the next boot, and those of a module as long as
it is the same one.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from klpd.kernel.sysfs import ROOT
from klpd.model import VMLINUX, SymbolCount

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PIECE: Final = 256 << 10
_PAST_THE_KERNEL: Final = b"["
_BY_LTO: Final = b".llvm."
"""What clang puts behind the names of static functions under LTO.  Some kernels look through that (compare_symbol_name
in kernel/kallsyms.c), and others do not."""


@dataclass(slots=True)
class _Index:
    """The symbols of an object, each by the hash of its name; `doubtful` are names that might be found, too."""

    stamp: str
    hashes: array[int] = field(default_factory=lambda: array("q"))
    doubtful: set[bytes] = field(default_factory=set)

    def add(self, names: list[bytes]) -> None:
        self.hashes.extend(map(hash, names))
        self.doubtful.update(each.partition(_BY_LTO)[0] for each in names if _BY_LTO in each)

    def sort(self) -> None:
        self.hashes = array("q", sorted(self.hashes))

    def count(self, name: bytes) -> int | None:
        if name in self.doubtful:
            return None
        wanted = hash(name)
        return bisect_right(self.hashes, wanted) - bisect_left(self.hashes, wanted)


class Kallsyms:
    """The symbols of the running kernel; may be used from any thread."""

    def __init__(self, root: Path = ROOT) -> None:
        self._path = root / "proc/kallsyms"
        self._known: dict[str, _Index] = {}
        self._lock = threading.Lock()

    def counts(self, wanted: Mapping[str, frozenset[str]], stamps: Mapping[str, str]) -> tuple[SymbolCount, ...]:
        """How many symbols there are of each name that is wanted of an object; without what cannot be told.

        `stamps` tells an object (a module) from one of the same name that was loaded before.
        """
        with self._lock:
            indices = self._indices({each: stamps.get(each, "") for each in wanted})
        return tuple(
            SymbolCount(object_, name, count)
            for object_, index in indices.items()
            for name in sorted(wanted[object_])
            if (count := index.count(name.encode())) is not None
        )

    def _indices(self, stamps: Mapping[str, str]) -> dict[str, _Index]:
        missing = {
            each: _Index(stamp)
            for each, stamp in stamps.items()
            if each not in self._known or self._known[each].stamp != stamp
        }
        if missing:
            try:
                self._read(missing)
            except OSError:
                # Nothing is known then, and nothing is said of it but that.
                missing = {}
            # Of an object without any symbol it is not that none is there: nobody may see them.
            seen = {each: index for each, index in missing.items() if index.hashes}
            gone = {each for each in self._known if each != VMLINUX and each not in stamps}
            self._known = {each: index for each, index in self._known.items() if each not in gone} | seen
        known = ((each, self._known.get(each)) for each in stamps)
        return {each: index for each, index in known if index is not None and index.stamp == stamps[each]}

    def _read(self, indices: Mapping[str, _Index]) -> None:
        kernel = indices.get(VMLINUX)
        modules = {f"[{each}]".encode(): index for each, index in indices.items() if each != VMLINUX}
        with self._path.open("rb") as file:
            while lines := file.readlines(_PIECE):
                # Those of the kernel come first, three words each; behind those of others is whose they are.
                if _PAST_THE_KERNEL not in lines[-1]:
                    if kernel is not None:
                        kernel.add(b"".join(lines).split()[2::3])
                    continue
                words = [each.split() for each in lines]
                if kernel is not None:
                    kernel.add([each[2] for each in words if len(each) == 3])
                if not modules:
                    break
                for each in words:
                    if len(each) == 4 and each[3] in modules:
                        modules[each[3]].add([each[2]])
        for index in indices.values():
            index.sort()
