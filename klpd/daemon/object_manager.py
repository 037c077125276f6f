# SPDX-License-Identifier: GPL-2.0-or-later
"""The objects that come and go below one path, and org.freedesktop.DBus.ObjectManager there, which tells of them.

https://dbus.freedesktop.org/doc/dbus-specification.html#standard-interfaces-objectmanager
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.daemon.bus import read_interface

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from klpd.daemon.bus import Bus, Publication
    from klpd.daemon.call import Call

_INTERFACE: Final = "org.freedesktop.DBus.ObjectManager"


class ObjectManager:
    """The objects below `path`, each with one interface; to be used on the main loop only.

    Whoever reads an object's properties sees what was last told of them, and nothing newer.
    """

    def __init__(self, bus: Bus, path: str) -> None:
        self._bus = bus
        self._objects: dict[str, _Managed] = {}
        methods = {"GetManagedObjects": lambda _call: self._managed()}
        self._publication = bus.publish(path, read_interface(_INTERFACE), methods, dict)

    def add(
        self,
        path: str,
        interface: str,
        methods: Mapping[str, Callable[[Call], object]],
        properties: Mapping[str, object],
    ) -> None:
        """Put an object on the bus."""
        publication = self._bus.publish(
            path, read_interface(interface), methods, lambda: self._objects[path].properties
        )
        self._objects[path] = _Managed(interface, publication, properties)
        self._publication.emit("InterfacesAdded", path, self._objects[path].interfaces())

    def change(self, path: str, properties: Mapping[str, object]) -> None:
        """Tell the bus which properties of an object have changed, now that all are these."""
        shown = self._objects[path]
        changed = {name: value for name, value in properties.items() if value != shown.properties[name]}
        shown.properties = properties
        if changed:
            shown.publication.emit_changed(changed)

    def remove(self, path: str) -> None:
        """Take an object from the bus."""
        gone = self._objects.pop(path)
        gone.publication.unregister()
        self._publication.emit("InterfacesRemoved", path, [gone.interface])

    def _managed(self) -> object:
        return {path: each.interfaces() for path, each in self._objects.items()}


class _Managed:
    """An object, and what was last told of its properties."""

    def __init__(self, interface: str, publication: Publication, properties: Mapping[str, object]) -> None:
        self.interface = interface
        self.publication = publication
        self.properties = properties

    def interfaces(self) -> object:
        return {self.interface: self.publication.typed(self.properties)}
