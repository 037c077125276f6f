# SPDX-License-Identifier: GPL-2.0-or-later
"""What of the running kernel, beside its livepatches, decides on whether another one can come.

It is read when a livepatch is to be judged, and not before.  What cannot be read is unknown, and no error: the kernel
looks itself, later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.errors import KernelError
from klpd.kernel.kallsyms import Kallsyms
from klpd.kernel.signing import read_demand
from klpd.kernel.switches import FTRACE_ENABLED, ftrace_is_off
from klpd.kernel.sysfs import ROOT, read_build_id, read_modules
from klpd.kernel.taken import read_taken
from klpd.model import VMLINUX, Circumstances, Surroundings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from klpd.model import Livepatch


class Around:
    """Reads the surroundings; keeps what does not change.  May be used from any thread."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._kallsyms = Kallsyms(root)

    def prepare(self) -> None:
        """Read what stays as it is until the next boot, and takes longest: the kernel's own symbols."""
        self._kallsyms.counts({VMLINUX: frozenset()}, {})

    def circumstances(self) -> Circumstances:
        """Those of the moment."""
        return Circumstances(
            self._modules(),
            read_taken(self._root),
            self._ftrace(),
            read_demand(self._root),
        )

    def of(self, livepatches: Iterable[Livepatch], circumstances: Circumstances | None = None) -> Surroundings:
        """All that the kernel would look for to load any of these now; `circumstances`: those of just now."""
        circumstances = circumstances or self.circumstances()
        loaded = circumstances.loaded or frozenset({VMLINUX})
        wanted: dict[str, set[str]] = {}
        for livepatch in livepatches:
            for each in livepatch.objects or ():
                if each.name in loaded and not each.misnamed:
                    wanted.setdefault(each.name, set()).update(function.name for function in each.functions)
            for needed in livepatch.needs or ():
                if needed.by in loaded and needed.object in loaded:
                    wanted.setdefault(needed.object, set()).add(needed.name)
        names = {object_: frozenset(each) for object_, each in wanted.items() if each}
        stamps = {each: self._stamp(each) for each in names if each != VMLINUX}
        return Surroundings(circumstances, self._kallsyms.counts(names, stamps) if names else ())

    def _modules(self) -> tuple[str, ...] | None:
        try:
            return tuple(sorted(each.name for each in read_modules(self._root) if each.live))
        except KernelError:
            return None

    def _ftrace(self) -> bool | None:
        try:
            return not ftrace_is_off(self._root / FTRACE_ENABLED.relative_to(ROOT))
        except KernelError:
            return None

    def _stamp(self, module: str) -> str:
        """What tells a loaded module from another one by the same name."""
        folder = self._root / "sys/module" / module
        try:
            status = folder.stat()
        except OSError:
            return ""
        return f"{status.st_ino} {status.st_ctime_ns} {read_build_id(module, self._root)}"
