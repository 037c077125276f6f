# SPDX-License-Identifier: GPL-2.0-or-later
from gi.repository import Gio
from pydbus import registration as registration

class Bus:
    con: Gio.DBusConnection
    def request_name(self, name: str, allow_replacement: bool = ..., replace: bool = ...) -> object: ...

def SystemBus() -> Bus: ...
