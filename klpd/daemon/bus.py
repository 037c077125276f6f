# SPDX-License-Identifier: GPL-2.0-or-later
"""The system bus: the one place that knows pydbus.

pydbus answers a method call when the Python method returns, makes error names of exception class names, hands out the
index of a file descriptor instead of the descriptor, and gives its name away to whoever asks.  So klpd takes its
connection and its registration of objects, and answers calls itself: at once or later, with klpd's own errors.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

import gi.overrides.Gio
import pydbus
import pydbus.registration
from gi.repository import Gio, GLib

from klpd.daemon.call import Call
from klpd.errors import KlpdError, LimitError, UsageError
from klpd.plain import to_utf8
from klpd.policy.show import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

    from klpd.daemon.loop import Loop
    from klpd.plain import Plain

log = logging.getLogger(__name__)

_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_VARIANT: Final = GLib.VariantType("v")
_ENTRY: Final = GLib.VariantType("{sv}")
_LARGEST_CALL: Final = 256 << 10
"""In bytes.  The names of as many files as the bus lets anybody hand over are less."""
_LONGEST_ERROR: Final = 8192
"""Where an error repeats what it was given, the bus would throw out who answers with too much of it."""

# PyGObject before 3.50.0-4 (Debian) keeps a reference of every invocation for ever: 2 kB a call.  The override of
# register_object that lets go of it came with the cure.
_KEEPS_INVOCATIONS: Final = "register_object" not in vars(getattr(gi.overrides.Gio, "DBusConnection", object))


def to_variant(plain: Plain) -> GLib.Variant:
    """A plain value (klpd.plain) as a variant: objects as a{sv}, lists as av, whole numbers as t, or x if negative."""
    # Not GLib.Variant(signature, value), which takes four times as long: it reads the signature for every value.
    variant = GLib.Variant
    match plain:
        case bool():
            return variant.new_boolean(plain)
        case int():
            return variant.new_int64(plain) if plain < 0 else variant.new_uint64(plain)
        case float():
            return variant.new_double(plain)
        case str():
            return variant.new_string(to_utf8(plain))
        case list():
            return variant.new_array(_VARIANT, [variant.new_variant(to_variant(each)) for each in plain])
        case dict():
            return variant.new_array(
                _ENTRY,
                [
                    variant.new_dict_entry(variant.new_string(key), variant.new_variant(to_variant(value)))
                    for key, value in plain.items()
                ],
            )


def to_dictionary(plain: Plain) -> dict[str, GLib.Variant]:
    """A plain object, ready to stand in a value of the type a{sv}."""
    if not isinstance(plain, dict):
        raise TypeError(f"{type(plain).__name__} is no dictionary")
    return {key: to_variant(value) for key, value in plain.items()}


def to_dictionaries(plain: Plain) -> list[dict[str, GLib.Variant]]:
    """A plain list of objects, ready to stand in a value of the type aa{sv}."""
    if not isinstance(plain, list):
        raise TypeError(f"{type(plain).__name__} is no list")
    return [to_dictionary(each) for each in plain]


@cache
def read_interface(name: str) -> str:
    """The introspection XML of an interface of klpd's own."""
    return resources.files("klpd.daemon").joinpath(f"{name}.xml").read_text(encoding="utf-8")


class Publication:
    """An object on the bus."""

    def __init__(
        self,
        connection: Gio.DBusConnection,
        path: str,
        interface: Gio.DBusInterfaceInfo,
        unregister: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._path = path
        self._interface = interface
        self.unregister = unregister

    def emit(self, signal: str, *values: object) -> None:
        """Emit a signal of the object's interface, with values of the types that this declares."""
        declared = next(each for each in self._interface.signals if each.name == signal)
        arguments = GLib.Variant("(" + "".join(each.signature for each in declared.args) + ")", values)
        self._emit(self._interface.name, signal, arguments)

    def emit_changed(self, values: Mapping[str, object]) -> None:
        """Emit PropertiesChanged for these properties."""
        changed = GLib.Variant("(sa{sv}as)", (self._interface.name, _typed(self._interface, values), []))
        self._emit(_PROPERTIES, "PropertiesChanged", changed)

    def _emit(self, interface: str, signal: str, arguments: GLib.Variant) -> None:
        if not self._connection.is_closed():  # there is nobody to hear it then
            self._connection.emit_signal(None, self._path, interface, signal, arguments)

    def typed(self, values: Mapping[str, object]) -> dict[str, GLib.Variant]:
        """Values of properties, in the types that the object's interface declares for them."""
        return _typed(self._interface, values)


class Bus:
    """A connection to the system bus."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._bus = pydbus.SystemBus()
        self.connection: Gio.DBusConnection = self._bus.con
        # Else GDBus sends SIGTERM to the process, which is how it is told to end, and well.
        self.connection.set_exit_on_close(False)

    def when_closed(self, gone: Callable[[], None]) -> None:
        """Call `gone` on the loop when the connection is lost: the bus has ended, or has thrown klpd out."""
        self.connection.connect("closed", lambda _connection, _vanished, _error: self._loop.call_soon(gone))

    def publish(
        self,
        path: str,
        xml: str,
        methods: Mapping[str, Callable[[Call], object]],
        properties: Callable[[], Mapping[str, object]],
    ) -> Publication:
        """Put an object with the one interface that `xml` describes on the bus.

        A method returns what its out arguments are to be (None for none, a tuple for several), or a Future of that.
        `properties` gives the values of all properties.
        """
        interface = _interface(xml)
        wrapper = _Object(self._loop, interface, methods, properties)
        registration = pydbus.registration.ObjectRegistration(self._bus, path, [interface], wrapper, own_wrapper=True)
        return Publication(self.connection, path, interface, registration.unregister)

    def own(self, name: str) -> None:
        """Take the name, for good.  Raises RuntimeError where somebody else has it."""
        self._bus.request_name(name, allow_replacement=False)


class _NoSignals:
    """What pydbus wants to listen to for signals; klpd emits them itself."""

    def connect(self, _callback: Callable[..., None]) -> AbstractContextManager[None]:
        return nullcontext()


class _Object:
    """What pydbus calls an object wrapper: the receiver of calls to one object."""

    SignalEmitted = _NoSignals()
    """pydbus' own kind of signal would keep every object that ever was on the bus."""

    def __init__(
        self,
        loop: Loop,
        interface: Gio.DBusInterfaceInfo,
        methods: Mapping[str, Callable[[Call], object]],
        properties: Callable[[], Mapping[str, object]],
    ) -> None:
        self._loop = loop
        self._interface = interface
        self._methods = methods
        self._properties = properties
        self._results = {
            each.name: "(" + "".join(arg.signature for arg in each.out_args) + ")" for each in interface.methods
        }

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to undo; pydbus calls it when the object leaves the bus."""

    def call_method(
        self,
        _connection: Gio.DBusConnection,
        sender: str,
        _path: str,
        interface: str,
        method: str,
        parameters: GLib.Variant,
        invocation: Gio.DBusMethodInvocation,
    ) -> None:
        """Answer a call; GDBus has checked it against the interface."""
        try:
            if interface == _PROPERTIES:
                self._reply(invocation, self._property_call(method, parameters))
                return
            message = invocation.get_message()
            with _until_returned(message.get_unix_fd_list()) as fds:
                call = Call(
                    sender,
                    _arguments(parameters),
                    interactive=bool(message.get_flags() & Gio.DBusMessageFlags.ALLOW_INTERACTIVE_AUTHORIZATION),
                    fds=fds,
                )
                result = self._methods[method](call)
        except Exception as error:
            self._reply_error(invocation, error)
            return
        if isinstance(result, Future):
            result.add_done_callback(lambda done: self._reply_done(invocation, method, done))
        else:
            self._reply(invocation, self._variant(method, result))

    def _variant(self, method: str, result: object) -> GLib.Variant | None:
        signature = self._results[method]
        if signature == "()":
            return None
        return GLib.Variant(signature, result if isinstance(result, tuple) else (result,))

    def _property_call(self, method: str, arguments: GLib.Variant) -> GLib.Variant:
        variants = _typed(self._interface, self._properties())
        if method == "GetAll":
            return GLib.Variant("(a{sv})", (variants,))
        if method == "Get":
            return GLib.Variant("(v)", (variants[arguments.get_child_value(1).get_string()],))
        raise UsageError("no property of klpd can be set; it has methods for what may be changed")

    def _reply_done(self, invocation: Gio.DBusMethodInvocation, method: str, done: Future[object]) -> None:
        """Answer on the loop; the answer is made on the thread that calls, since a large one takes its time."""
        try:
            variant = self._variant(method, done.result())
        except Exception as caught:
            error = caught
            self._loop.call_soon(lambda: self._reply_error(invocation, error))
        else:
            self._loop.call_soon(lambda: self._reply(invocation, variant))

    def _reply(self, invocation: Gio.DBusMethodInvocation, value: GLib.Variant | None) -> None:
        invocation.return_value(value)
        _let_go(invocation)

    def _reply_error(self, invocation: Gio.DBusMethodInvocation, error: Exception) -> None:
        if isinstance(error, KlpdError):
            invocation.return_dbus_error(error.dbus_name, shortened(to_utf8(error.account), _LONGEST_ERROR))
        else:
            log.error("a call of %s failed", invocation.get_method_name(), exc_info=error)
            invocation.return_dbus_error(
                KlpdError.dbus_name, "klpd met an error of its own; its journal has the details"
            )
        _let_go(invocation)


@contextmanager
def _until_returned(fds: Gio.UnixFDList | None) -> Iterator[Gio.UnixFDList | None]:
    """What was handed over, closed at the end, whether anybody has looked at it or not."""
    try:
        yield fds
    finally:
        for fd in [] if fds is None else fds.steal_fds():
            os.close(fd)


def _arguments(parameters: GLib.Variant) -> tuple[object, ...]:
    """The arguments of a call.  Raises LimitError for more than any call needs, before anything looks at them."""
    size = parameters.get_size()
    if size > _LARGEST_CALL:
        raise LimitError(f"the arguments have {size} bytes; klpd takes {_LARGEST_CALL} at most")
    arguments = parameters.unpack()
    if not isinstance(arguments, tuple):
        raise TypeError("the arguments of a method call are a tuple")
    return arguments


@cache
def _interface(xml: str) -> Gio.DBusInterfaceInfo:
    (interface,) = Gio.DBusNodeInfo.new_for_xml(xml).interfaces
    return interface


def _typed(interface: Gio.DBusInterfaceInfo, values: Mapping[str, object]) -> dict[str, GLib.Variant]:
    types = {each.name: each.signature for each in interface.properties}
    return {name: GLib.Variant(types[name], value) for name, value in values.items()}


def _let_go(invocation: Gio.DBusMethodInvocation) -> None:
    if _KEEPS_INVOCATIONS:
        invocation._unref()
