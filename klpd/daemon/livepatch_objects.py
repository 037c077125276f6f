# SPDX-License-Identifier: GPL-2.0-or-later
"""The objects org.klpd1.Livepatch, one for each livepatch in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.daemon.bus import to_dictionary
from klpd.plain import to_plain
from klpd.report import LIVEPATCH_INTERFACE, MANAGER_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from klpd.daemon.call import Call
    from klpd.daemon.object_manager import ObjectManager
    from klpd.model import Drift, Installed, Stack

_WORDS: Final = {None: "unknown", False: "no", True: "yes"}


def livepatch_path(name: str) -> str:
    """Where the object of the livepatch is: its name is escaped as sd_bus_path_encode(3) does it."""
    escaped = "".join(
        chr(byte) if _stays(chr(byte), first=rank == 0) else f"_{byte:02x}" for rank, byte in enumerate(name.encode())
    )
    return f"{MANAGER_PATH}/livepatch/{escaped}"


def _stays(character: str, *, first: bool) -> bool:
    return character.isascii() and (character.isalpha() or (character.isdigit() and not first))


class LivepatchObjects:
    """The livepatches of the stack that was last shown; `disable` answers the method Disable of the one named."""

    def __init__(self, objects: ObjectManager, disable: Callable[[Call, str], object]) -> None:
        self._objects = objects
        self._disable = disable
        self._shown: dict[str, tuple[Installed, bool]] = {}

    def show(self, stack: Stack, drift: Iterable[Drift]) -> None:
        """Tell the bus what has come, changed and gone, now that this is the stack, with this drift in it."""
        drifting = {each.livepatch for each in drift}
        present = {each.name: (each, each.name in drifting) for each in stack.livepatches}
        before, self._shown = self._shown, present
        for name in before.keys() - present.keys():
            self._objects.remove(livepatch_path(name))
        for name, shown in present.items():
            if shown == before.get(name):
                continue
            livepatch, drifts = shown
            properties = livepatch_properties(livepatch, drift=drifts)
            if name in before:
                self._objects.change(livepatch_path(name), properties)
            else:
                self._add(name, properties)

    def _add(self, name: str, properties: Mapping[str, object]) -> None:
        methods = {"Disable": lambda call: self._disable(call, name)}
        self._objects.add(livepatch_path(name), LIVEPATCH_INTERFACE, methods, properties)


def livepatch_properties(livepatch: Installed, *, drift: bool) -> dict[str, object]:
    """The properties of org.klpd1.Livepatch, as the interface declares them."""
    return {
        "Name": livepatch.name,
        "Enabled": livepatch.enabled,
        "InTransition": livepatch.transition,
        "Replace": _WORDS[livepatch.replace],
        "Forced": _WORDS[livepatch.forced],
        "States": [(each.id, each.version) for each in livepatch.carried or ()],
        "StatesSource": livepatch.carried_source.value,
        "BuildId": livepatch.build_id or "",
        "Digest": livepatch.digest or "",
        "Objects": [each.name for each in livepatch.objects],
        "Drift": drift,
        "Report": to_dictionary(to_plain(livepatch)),
    }
