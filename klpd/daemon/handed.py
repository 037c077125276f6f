# SPDX-License-Identifier: GPL-2.0-or-later
"""What a caller hands over on the bus, as open descriptors: modules, and the manifests that lie beside them."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from klpd import module
from klpd.errors import LimitError, ModuleFormatError, NotAuthorizedError
from klpd.files import read_descriptor, said_size
from klpd.model import Livepatch
from klpd.module.loaded import as_loaded
from klpd.policy.beside import Handed, distrusted, manifest_path, read_handed, with_declared
from klpd.policy.show import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from klpd.layout import Layouts
    from klpd.model import Declaration

NamedFile = tuple[BinaryIO, str]
"""A file, open for reading, and its name for messages."""
_ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A livepatch with what is declared of it but by the site, its module's bytes, unpacked, and the manifests that
    came along.  `packed`: the file is compressed.

    `livepatch` is true whatever a loader gives it as parameters, `loaded` of those that it was handed over with.
    """

    livepatch: Livepatch
    loaded: Livepatch
    data: bytes
    manifests: tuple[Handed, ...] = ()
    packed: bool = False

    @property
    def distrust(self) -> str | None:
        """Why nobody but root may have it applied; None: there is no such reason."""
        return next((str(distrusted(each)) for each in self.manifests if each.distrust is not None), None)

    def check_author(self, uid: int) -> None:
        """See that nobody but root makes a livepatch be what it is declared to be.  Raises NotAuthorizedError."""
        if uid != _ROOT and self.distrust is not None:
            raise NotAuthorizedError(self.distrust)


def read_files(
    files: Sequence[NamedFile],
    manifests: Sequence[NamedFile],
    remembered: Callable[[str], Declaration | None],
    layouts: Layouts,
    budget: int | None = None,
    parameters: Sequence[tuple[str, ...]] = (),
) -> tuple[HandedOver, ...]:
    """The livepatches in `files`, in their order, and what `manifests` declare of them; closes all of them.

    `parameters` (NAME=VALUE) are those to load each with; none at all: each without any.

    The modules may have so many bytes in all as `budget` says, unpacked and as they are handed over; None: each what a
    livepatch may have.

    A manifest that is named as the one beside a file is for that file; any other is for whichever of the livepatches it
    names.  Of one without a manifest, what is `remembered` by its digest holds.

    Raises ModuleFormatError, LimitError where they have more, UsageError for parameters that they do not have, and
    PolicyError where a manifest does not check or is for none of them.
    """
    with ExitStack() as opened:
        for file, _name in (*files, *manifests):
            opened.enter_context(file)
        purse = _Budget(budget)
        of_each: Sequence[tuple[str, ...]] = parameters or ((),) * len(files)
        modules = [
            _Module.read(file, name, layouts, purse, given) for (file, name), given in zip(files, of_each, strict=True)
        ]
        handed = [(name, read_handed(file.fileno(), shown(Path(name)))) for file, name in manifests]
    besides = {each.manifest for each in modules}
    for name, each in handed:
        if name not in besides and not any(each.manifest.is_for(module.livepatch) for module in modules):
            with_declared(modules[0].livepatch, (each.manifest,), None)
    return tuple(
        each.declared([own for name, own in handed if each.has(name, own, besides)], remembered) for each in modules
    )


@dataclass(frozen=True, slots=True)
class _Module:
    """A file that was handed over; `manifest` is where the one beside it would be."""

    livepatch: Livepatch
    loaded: Livepatch
    data: bytes
    packed: bool
    manifest: str

    @classmethod
    def read(cls, file: BinaryIO, name: str, layouts: Layouts, budget: _Budget, parameters: tuple[str, ...]) -> _Module:
        manifest = manifest_path(os.readlink(f"/proc/self/fd/{file.fileno()}"))
        packed = budget.read(file, name)
        data = budget.unpack(packed, name)
        livepatch = module.read_livepatch(data, file=name, layouts=layouts)
        loaded = as_loaded(livepatch, lambda: data, parameters, name, layouts)
        return cls(livepatch, loaded, data, data is not packed, manifest)

    def has(self, name: str, handed: Handed, besides: Container[str]) -> bool:
        return name == self.manifest if name in besides else handed.manifest.is_for(self.livepatch)

    def declared(self, own: Sequence[Handed], remembered: Callable[[str], Declaration | None]) -> HandedOver:
        manifests = [each.manifest for each in own]
        livepatch = with_declared(self.livepatch, manifests, remembered(self.livepatch.digest))
        loaded = replace(self.loaded, declared=livepatch.declared)
        return HandedOver(livepatch, loaded, self.data, tuple(own), self.packed)


class _Budget:
    """How many bytes may still be read; None: there is no bound on their sum."""

    def __init__(self, left: int | None) -> None:
        self._left = left
        self._whole = left

    def read(self, file: BinaryIO, name: str) -> bytes:
        if self._left is None:
            return read_descriptor(file.fileno(), name)
        try:
            packed = read_descriptor(file.fileno(), name, self._left)
        except ModuleFormatError as error:
            if os.fstat(file.fileno()).st_size > self._left:
                raise self._over(name) from error
            raise
        self._left -= len(packed)
        return packed

    def unpack(self, packed: bytes, name: str) -> bytes:
        if self._left is None:
            return module.unpack(packed, file=name)
        data = module.unpack(packed, file=name, largest=self._left)
        if data is not packed:
            self._left -= len(data)
        return data

    def _over(self, name: str) -> LimitError:
        return LimitError(
            f"{name}: klpd reads {said_size(self._whole or 0)} at most for who is not known to be allowed anything; "
            "ask as root"
        )
