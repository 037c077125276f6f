# SPDX-License-Identifier: GPL-2.0-or-later
from collections.abc import Sequence

from gi.repository import Gio
from pydbus.bus import Bus

class ObjectRegistration:
    def __init__(
        self,
        bus: Bus,
        path: str,
        interfaces: Sequence[Gio.DBusInterfaceInfo],
        wrapper: object,
        own_wrapper: bool = ...,
    ) -> None: ...
    def unregister(self) -> None: ...
