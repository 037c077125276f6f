# SPDX-License-Identifier: GPL-2.0-or-later
"""What a caller hands over on the bus, as open descriptors: modules, and the manifests that lie beside them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from klpd import module
from klpd.errors import NotAuthorizedError
from klpd.files import read_descriptor
from klpd.model import Livepatch
from klpd.policy.beside import Handed, distrusted, read_handed, with_manifest
from klpd.policy.show import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from klpd.layout import Layouts

NamedFile = tuple[BinaryIO, str]
"""A file, open for reading, and its name for messages."""
_ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A livepatch with what the manifests that came along declare of it, and the module's bytes, unpacked."""

    livepatch: Livepatch
    data: bytes
    manifests: tuple[Handed, ...] = ()

    def check_author(self, uid: int) -> None:
        """See that nobody but root makes a livepatch be what it is declared to be.  Raises NotAuthorizedError."""
        for each in self.manifests:
            if uid != _ROOT and each.distrust is not None:
                raise NotAuthorizedError(str(distrusted(each)))


def read_files(
    files: Sequence[NamedFile],
    manifests: Sequence[NamedFile],
    remembered: Callable[[str], Livepatch | None],
    layouts: Layouts,
) -> tuple[HandedOver, ...]:
    """The livepatches in `files`, in their order, and what `manifests` declare of them; closes all of them.

    Of one without a manifest, what was declared when klpd saw it last still holds: `remembered` finds that by digest.

    Raises ModuleFormatError, and PolicyError where a manifest does not check or is for none of them.
    """
    with ExitStack() as opened:
        for file, _name in (*files, *manifests):
            opened.enter_context(file)
        modules = [_read(file, name, layouts) for file, name in files]
        handed = [read_handed(file.fileno(), shown(Path(name))) for file, name in manifests]
    for each in handed:
        if not any(each.manifest.is_for(livepatch) for livepatch, _data in modules):
            with_manifest(modules[0][0], each.manifest)
    return tuple(_declared(livepatch, data, handed, remembered) for livepatch, data in modules)


def _read(file: BinaryIO, name: str, layouts: Layouts) -> tuple[Livepatch, bytes]:
    data = module.unpack(read_descriptor(file.fileno(), name), file=name)
    return module.read_livepatch(data, file=name, layouts=layouts), data


def _declared(
    livepatch: Livepatch, data: bytes, handed: Sequence[Handed], remembered: Callable[[str], Livepatch | None]
) -> HandedOver:
    own = tuple(each for each in handed if each.manifest.is_for(livepatch))
    for each in own:
        livepatch = with_manifest(livepatch, each.manifest)
    known = None if own else remembered(livepatch.digest)
    if known is not None:
        livepatch = replace(livepatch, declared=livepatch.declared + known.declared)
    return HandedOver(livepatch, data, own)
