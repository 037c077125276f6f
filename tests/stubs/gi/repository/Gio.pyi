# SPDX-License-Identifier: GPL-2.0-or-later
# What klpd uses of Gio (python3-gi), D-Bus for the most part; no more.
from collections.abc import Callable
from enum import IntEnum, IntFlag

from gi.repository import GLib

class IOErrorEnum(IntEnum):
    NOT_FOUND = 1
    CLOSED = 18
    CANCELLED = 19
    TIMED_OUT = 24

def io_error_quark() -> int: ...

class BusType(IntEnum):
    STARTER = -1
    NONE = 0
    SYSTEM = 1
    SESSION = 2

class DBusCallFlags(IntFlag):
    NONE = 0
    NO_AUTO_START = 1
    ALLOW_INTERACTIVE_AUTHORIZATION = 2

class DBusSignalFlags(IntFlag):
    NONE = 0
    NO_MATCH_RULE = 1

class DBusMessageFlags(IntFlag):
    NONE = 0
    NO_REPLY_EXPECTED = 1
    NO_AUTO_START = 2
    ALLOW_INTERACTIVE_AUTHORIZATION = 4

class DBusConnectionFlags(IntFlag):
    NONE = 0
    AUTHENTICATION_CLIENT = 1
    AUTHENTICATION_SERVER = 2
    AUTHENTICATION_ALLOW_ANONYMOUS = 4
    MESSAGE_BUS_CONNECTION = 8

class BusNameOwnerFlags(IntFlag):
    NONE = 0
    ALLOW_REPLACEMENT = 1
    REPLACE = 2
    DO_NOT_QUEUE = 4

class Cancellable:
    def __init__(self) -> None: ...
    def cancel(self) -> None: ...
    def is_cancelled(self) -> bool: ...

class AsyncResult: ...

class UnixFDList:
    def __init__(self) -> None: ...
    @staticmethod
    def new() -> UnixFDList: ...
    # Both duplicate the descriptor; get() gives one that the caller closes.
    def append(self, fd: int) -> int: ...
    def get(self, index_: int) -> int: ...
    def get_length(self) -> int: ...
    # The list is empty afterwards, and its descriptors the caller's to close.
    def steal_fds(self) -> list[int]: ...

class DBusError:
    @staticmethod
    def is_remote_error(error: GLib.Error) -> bool: ...
    @staticmethod
    def get_remote_error(error: GLib.Error) -> str | None: ...
    # Works on a copy in PyGObject: what it strips, it strips from nothing that the caller sees.
    @staticmethod
    def strip_remote_error(error: GLib.Error) -> bool: ...

class DBusArgInfo:
    name: str
    signature: str

class DBusMethodInfo:
    name: str
    in_args: list[DBusArgInfo]
    out_args: list[DBusArgInfo]

class DBusPropertyInfo:
    name: str
    signature: str

class DBusSignalInfo:
    name: str
    args: list[DBusArgInfo]

class DBusInterfaceInfo:
    name: str
    methods: list[DBusMethodInfo]
    signals: list[DBusSignalInfo]
    properties: list[DBusPropertyInfo]
    def lookup_method(self, name: str) -> DBusMethodInfo | None: ...
    def lookup_property(self, name: str) -> DBusPropertyInfo | None: ...

class DBusNodeInfo:
    interfaces: list[DBusInterfaceInfo]
    @staticmethod
    def new_for_xml(xml_data: str) -> DBusNodeInfo: ...
    def lookup_interface(self, name: str) -> DBusInterfaceInfo | None: ...

class DBusMessage:
    def get_flags(self) -> DBusMessageFlags: ...
    def get_unix_fd_list(self) -> UnixFDList | None: ...
    def get_sender(self) -> str | None: ...

class DBusMethodInvocation:
    def get_sender(self) -> str: ...
    def get_object_path(self) -> str: ...
    def get_interface_name(self) -> str: ...
    def get_method_name(self) -> str: ...
    def get_parameters(self) -> GLib.Variant: ...
    def get_message(self) -> DBusMessage: ...
    def get_connection(self) -> DBusConnection: ...
    def return_value(self, parameters: GLib.Variant | None) -> None: ...
    def return_dbus_error(self, error_name: str, error_message: str) -> None: ...
    def _unref(self) -> None: ...

class DBusConnection:
    @staticmethod
    def new_for_address(
        address: str,
        flags: DBusConnectionFlags,
        observer: None,
        cancellable: Cancellable | None,
        callback: Callable[[object, AsyncResult], object],
    ) -> None: ...
    @staticmethod
    def new_for_address_finish(res: AsyncResult) -> DBusConnection: ...
    def close(self, cancellable: Cancellable | None, callback: None) -> None: ...
    def call_sync(
        self,
        bus_name: str | None,
        object_path: str,
        interface_name: str,
        method_name: str,
        parameters: GLib.Variant | None,
        reply_type: GLib.VariantType | None,
        flags: DBusCallFlags,
        timeout_msec: int,
        cancellable: Cancellable | None = None,
    ) -> GLib.Variant: ...
    def call(
        self,
        bus_name: str | None,
        object_path: str,
        interface_name: str,
        method_name: str,
        parameters: GLib.Variant | None,
        reply_type: GLib.VariantType | None,
        flags: DBusCallFlags,
        timeout_msec: int,
        cancellable: Cancellable | None = None,
        callback: Callable[[DBusConnection, AsyncResult], object] | None = None,
    ) -> None: ...
    def call_finish(self, res: AsyncResult) -> GLib.Variant: ...
    def call_with_unix_fd_list_sync(
        self,
        bus_name: str | None,
        object_path: str,
        interface_name: str,
        method_name: str,
        parameters: GLib.Variant | None,
        reply_type: GLib.VariantType | None,
        flags: DBusCallFlags,
        timeout_msec: int,
        fd_list: UnixFDList | None,
        cancellable: Cancellable | None = None,
    ) -> tuple[GLib.Variant, UnixFDList | None]: ...
    def call_with_unix_fd_list(
        self,
        bus_name: str | None,
        object_path: str,
        interface_name: str,
        method_name: str,
        parameters: GLib.Variant | None,
        reply_type: GLib.VariantType | None,
        flags: DBusCallFlags,
        timeout_msec: int,
        fd_list: UnixFDList | None,
        cancellable: Cancellable | None = None,
        callback: Callable[[DBusConnection, AsyncResult], object] | None = None,
    ) -> None: ...
    def call_with_unix_fd_list_finish(self, res: AsyncResult) -> tuple[GLib.Variant, UnixFDList | None]: ...
    # The callback: connection, sender, object path, interface, signal, parameters.
    def signal_subscribe(
        self,
        sender: str | None,
        interface_name: str | None,
        member: str | None,
        object_path: str | None,
        arg0: str | None,
        flags: DBusSignalFlags,
        callback: Callable[[DBusConnection, str, str, str, str, GLib.Variant], object],
    ) -> int: ...
    def signal_unsubscribe(self, subscription_id: int) -> None: ...
    def emit_signal(
        self,
        destination_bus_name: str | None,
        object_path: str,
        interface_name: str,
        signal_name: str,
        parameters: GLib.Variant | None,
    ) -> bool: ...
    # The closures: connection, sender, object path, interface, then method, parameters and invocation; or property.
    def register_object(
        self,
        object_path: str,
        interface_info: DBusInterfaceInfo,
        method_call_closure: Callable[[DBusConnection, str, str, str, str, GLib.Variant, DBusMethodInvocation], object]
        | None = None,
        get_property_closure: Callable[[DBusConnection, str, str, str, str], GLib.Variant] | None = None,
        set_property_closure: Callable[[DBusConnection, str, str, str, str, GLib.Variant], bool] | None = None,
    ) -> int: ...
    def unregister_object(self, registration_id: int) -> bool: ...
    # A GObject's connect(), for the signal "closed": connection, remote peer vanished, error.
    def connect(
        self, detailed_signal: str, handler: Callable[[DBusConnection, bool, GLib.Error | None], object]
    ) -> int: ...
    def disconnect(self, handler_id: int) -> None: ...
    def get_unique_name(self) -> str | None: ...
    def is_closed(self) -> bool: ...
    def set_exit_on_close(self, exit_on_close: bool) -> None: ...
    def flush_sync(self, cancellable: Cancellable | None = None) -> bool: ...
    def close_sync(self, cancellable: Cancellable | None = None) -> bool: ...
    @staticmethod
    def new_for_address_sync(
        address: str, flags: DBusConnectionFlags, observer: None = None, cancellable: Cancellable | None = None
    ) -> DBusConnection: ...

def dbus_address_get_for_bus_sync(bus_type: BusType, cancellable: Cancellable | None) -> str: ...
def bus_get_sync(bus_type: BusType, cancellable: Cancellable | None = None) -> DBusConnection: ...
def bus_own_name_on_connection(
    connection: DBusConnection,
    name: str,
    flags: BusNameOwnerFlags,
    name_acquired_closure: Callable[[DBusConnection, str], object] | None = None,
    name_lost_closure: Callable[[DBusConnection, str], object] | None = None,
) -> int: ...
def bus_unown_name(owner_id: int) -> None: ...
