# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes of a module file -> klpd.model.Livepatch.

The bytes may be anybody's.  Whatever they are, the answer is a Livepatch or a ModuleFormatError, in time that grows
with the size of the file and no faster, and with at most 64 MiB of memory beside the file itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from klpd.errors import ModuleFormatError, NotALivepatchError, UsageError
from klpd.layout import known_layout
from klpd.model import Livepatch, release_of
from klpd.module.declared import read_declared
from klpd.module.elf import Elf
from klpd.module.formats import read_patch
from klpd.module.image import Image, Place
from klpd.module.modinfo import MODULE_NAME, read_modinfo
from klpd.module.needs import read_needs
from klpd.module.notes import read_build_id
from klpd.module.parameters import read_parameters, set_values
from klpd.module.signature import read_signature
from klpd.module.structures import Structures

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from klpd.layout import Layouts
    from klpd.module.elf import Section
    from klpd.module.modinfo import Modinfo
    from klpd.module.parameters import Parameter

# struct module begins with its state, a list_head and the name (include/linux/module.h).
_NAME_OFFSET: Final = 24
_MODULE_NAME_LEN: Final = 56


def read_livepatch(
    data: bytes, *, file: str, layouts: Layouts = known_layout, parameters: Sequence[str] | None = None
) -> Livepatch:
    """The livepatch in `data`, the bytes of the module file that `file` names in messages.

    `layouts` tells where everything is in the structures of the kernel that the module is for.  `parameters`
    (NAME=VALUE) are those that it is loaded with; None: whatever a loader may give it.

    Raises NotALivepatchError for any other module, ModuleFormatError for all else that cannot be read, and UsageError
    for parameters that it does not have, all with a sentence that begins with `file`.
    """
    try:
        return _read(data, layouts, parameters)
    except (ModuleFormatError, UsageError) as error:
        raise type(error)(f"{file}: {error}") from error


def _read(data: bytes, layouts: Layouts, given: Sequence[str] | None) -> Livepatch:
    import hashlib

    elf = Elf.read(data)
    modinfo = read_modinfo(elf)
    if modinfo.get("livepatch") is None:
        raise NotALivepatchError("a kernel module, but not a livepatch")
    name = modinfo.name
    module = _this_module(elf)
    _check_name(elf, module, name)
    vermagic = modinfo.get("vermagic") or ""
    layout = partial(layouts, release_of(vermagic), elf.machine)
    image = Image(elf)
    own = read_parameters(elf, image)
    free = own if given is None else set_values(image, own, given, modinfo.parameters)
    patch = read_patch(Structures(elf, image, Place(module.index, 0), layout, free))
    return Livepatch(
        name=name,
        digest=hashlib.sha256(data).hexdigest(),
        size=len(data),
        replace=None if _replace_is_asked_for(image, own, modinfo, given) else patch.replace,
        states=patch.states,
        objects=patch.objects,
        format=patch.format,
        layout=patch.layout,
        vermagic=vermagic,
        depends=modinfo.depends,
        build_id=read_build_id(elf),
        srcversion=modinfo.get("srcversion"),
        version=modinfo.get("version"),
        description=modinfo.get("description"),
        license=modinfo.get("license"),
        signature=read_signature(data),
        declared=read_declared(modinfo),
        parameters=None if given is None else tuple(given),
        needs=read_needs(elf),
    )


def _replace_is_asked_for(
    image: Image, parameters: Iterable[Parameter], modinfo: Modinfo, given: Sequence[str] | None
) -> bool:
    """Whether code makes `replace` of what a parameter of that name says: kpatch's, and that of the kernel's selftests.

    One that goes into the klp_patch itself is known once it is given.
    """
    if "replace" not in modinfo.parameters:
        return False
    places = [each.value for each in parameters if each.name == "replace"]
    direct = bool(places) and all(place is not None and image.is_inside(place) for place in places)
    return given is None or not direct


def _this_module(elf: Elf) -> Section:
    """The section that is the module's `struct module`, and the symbol __this_module."""
    sections = list(elf.named(b".gnu.linkonce.this_module"))
    if len(sections) != 1:
        raise ModuleFormatError(f"it has {len(sections)} sections .gnu.linkonce.this_module, not one")
    return sections[0]


def _check_name(elf: Elf, module: Section, name: str) -> None:
    """See that the module goes by the name in sysfs that .modinfo gives: rules know it by that.

    A kernel that shuffles the members of struct module has something else there, which is no name.
    """
    field = bytes(elf.content(module)[_NAME_OFFSET : _NAME_OFFSET + _MODULE_NAME_LEN])
    other, end, rest = field.partition(b"\0")
    if other != name.encode() and end and not rest.strip(b"\0") and MODULE_NAME.fullmatch(other.decode("latin-1")):
        raise ModuleFormatError(f"its .modinfo calls it {name}, its struct module {other.decode()}")
