# SPDX-License-Identifier: GPL-2.0-or-later
from gi.repository import Gio

class Bus:
    con: Gio.DBusConnection
    def __init__(self, gio_con: Gio.DBusConnection) -> None: ...
