# SPDX-License-Identifier: GPL-2.0-or-later
"""The system bus: the one place that knows pydbus.

pydbus answers a method call when the Python method returns, makes error names of exception class names, hands out the
index of a file descriptor instead of the descriptor, gives its name away to whoever asks, and has one connection for
good.  So klpd takes its registration of objects, joins the bus as often as there is need, and answers calls itself: at
once or later, with klpd's own errors, to nobody more than his share (klpd.daemon.callers).
"""

from __future__ import annotations

import logging
import os
import re
from concurrent.futures import Future
from contextlib import nullcontext
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

import gi.overrides.Gio
import pydbus.bus
import pydbus.registration
from gi.repository import Gio, GLib

from klpd.daemon.call import Call
from klpd.daemon.callers import Callers
from klpd.errors import KlpdError, LimitError, NotAuthorizedError, UsageError
from klpd.plain import to_utf8
from klpd.policy.show import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType

    from klpd.daemon.loop import Loop
    from klpd.plain import Plain

log = logging.getLogger(__name__)

_DBUS: Final = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_DO_NOT_QUEUE: Final = 4  # DBUS_NAME_FLAG_DO_NOT_QUEUE; without _ALLOW_REPLACEMENT nobody else can take the name
_EXISTS: Final = 3  # DBUS_REQUEST_NAME_REPLY_EXISTS
_SECONDS: Final = 25
"""For the bus to answer."""
_FIRST_TRY: Final = 5.0
"""Seconds after which nobody waits for klpd because the bus does not answer."""
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 8.0
"""Seconds between tries to join the bus: the first pause, and the longest that it becomes."""
_PREFIX: Final = re.compile(r"GDBus\.Error:[\w.]+: ")
"""What GDBus, at each end that an error came through, puts before its sentence."""
_GONE: Final = "org.freedesktop.DBus.Error.NameHasNoOwner"
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


def what_failed(error: GLib.Error, seconds: int) -> str:
    """What kept a call on the bus, that had so many seconds, from being answered."""
    if error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.TIMED_OUT):
        return f"there was no answer within {seconds} s"
    if _GONE in error.message:
        return "whoever asked has left the bus meanwhile"
    return _PREFIX.sub("", error.message)


@cache
def read_interface(name: str) -> str:
    """The introspection XML of an interface of klpd's own."""
    return resources.files("klpd.daemon").joinpath(f"{name}.xml").read_text(encoding="utf-8")


class Publication:
    """An object on the bus, whichever connection that has at the moment."""

    def __init__(self, bus: Bus, path: str, interface: Gio.DBusInterfaceInfo, receiver: _Object) -> None:
        self._bus = bus
        self._path = path
        self._interface = interface
        self._receiver = receiver
        self._registration: pydbus.registration.ObjectRegistration | None = None

    def register(self, bus: pydbus.bus.Bus) -> None:
        """Put it on a bus that klpd has joined."""
        self._registration = pydbus.registration.ObjectRegistration(
            bus, self._path, [self._interface], self._receiver, own_wrapper=True
        )

    def leave(self) -> None:
        """Take it from the bus that was joined."""
        registration, self._registration = self._registration, None
        if registration is not None:
            registration.unregister()

    def unregister(self) -> None:
        """Take it from the bus, for good."""
        self._bus.forget(self)
        self.leave()

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
        connection = self._bus.connection
        if connection is not None and not connection.is_closed():  # there is nobody to hear it then
            connection.emit_signal(None, self._path, interface, signal, arguments)

    def typed(self, values: Mapping[str, object]) -> dict[str, GLib.Variant]:
        """Values of properties, in the types that the object's interface declares for them."""
        return _typed(self._interface, values)


class Bus:
    """klpd on the system bus: it joins that when it is there, and again whenever it was lost.

    What is published is there each time.  To be used on the loop's thread.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._joined: pydbus.bus.Bus | None = None
        self._published: list[Publication] = []
        self._callers = Callers(self._ask_for_user)
        self._name = ""
        self._pause = _FIRST_PAUSE
        self._tried: Callable[[], None] | None = None
        self._taken: Callable[[], None] = lambda: None

    @property
    def connection(self) -> Gio.DBusConnection | None:
        """The connection; None as long as there is none."""
        return None if self._joined is None else self._joined.con

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
        receiver = _Object(self._loop, self._callers, interface, methods, properties)
        publication = Publication(self, path, interface, receiver)
        self._published.append(publication)
        if self._joined is not None:
            publication.register(self._joined)
        return publication

    def forget(self, publication: Publication) -> None:
        """Publish this no more on buses that are joined later."""
        self._published.remove(publication)

    def serve(self, name: str, tried: Callable[[], None], taken: Callable[[], None]) -> None:
        """Join the bus with this name, now and whenever it comes back.

        `tried` is called when the first try has ended, or lasts; but `taken` if somebody else has the name then.
        """
        self._name, self._tried, self._taken = name, tried, taken
        self._loop.after(_FIRST_TRY, self._first_try_ended)
        self._join()

    def _join(self) -> None:
        def connected(_source: object, result: Gio.AsyncResult) -> None:
            try:
                connection = Gio.DBusConnection.new_for_address_finish(result)
            except GLib.Error as error:
                self._not_joined(error.message)
            else:
                self._enter(connection)

        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        try:
            address = Gio.dbus_address_get_for_bus_sync(Gio.BusType.SYSTEM, None)
            Gio.DBusConnection.new_for_address(address, flags, None, None, connected)
        except GLib.Error as error:
            self._not_joined(error.message)

    def _enter(self, connection: Gio.DBusConnection) -> None:
        # Else GDBus sends SIGTERM to the process, which is how it is told to end, and well.
        connection.set_exit_on_close(False)
        connection.connect("closed", lambda _connection, _vanished, _error: self._loop.call_soon(self._left))
        self._callers.forget()
        self._joined = pydbus.bus.Bus(connection)
        for each in self._published:
            each.register(self._joined)

        def asked(connection: Gio.DBusConnection, result: Gio.AsyncResult) -> None:
            try:
                answer = connection.call_finish(result).get_child_value(0).get_uint32()
            except GLib.Error as error:
                log.error("klpd has no name on the system bus: %s", error.message)
                connection.close(None, None)
                return
            if answer == _EXISTS:
                log.error("somebody else has the name %s on the system bus, another klpd perhaps", self._name)
                connection.close(None, None)
                if self._tried is not None:
                    self._tried = None
                    self._taken()
                return
            if self._pause > _FIRST_PAUSE:
                log.warning("klpd is on the system bus again")
            self._pause = _FIRST_PAUSE
            self._first_try_ended()

        # pydbus would wait for the answer.
        connection.call(
            *_DBUS,
            "RequestName",
            GLib.Variant("(su)", (self._name, _DO_NOT_QUEUE)),
            None,
            Gio.DBusCallFlags.NONE,
            _SECONDS * 1000,
            None,
            asked,
        )

    def _left(self) -> None:
        self._joined = None
        for each in self._published:
            each.leave()
        self._not_joined("the connection was lost")

    def _not_joined(self, why: str) -> None:
        if self._pause == _FIRST_PAUSE:
            log.error("klpd is not on the system bus (%s); it goes on enforcing, and tries to join it again", why)
        self._loop.after(self._pause, self._join)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._first_try_ended()

    def _first_try_ended(self) -> None:
        tried, self._tried = self._tried, None
        if tried is not None:
            tried()

    def _ask_for_user(self, sender: str) -> Future[int]:
        user: Future[int] = Future()

        def asked(connection: Gio.DBusConnection, result: Gio.AsyncResult) -> None:
            try:
                user.set_result(connection.call_finish(result).get_child_value(0).get_uint32())
            except GLib.Error as error:
                why = what_failed(error, _SECONDS)
                user.set_exception(NotAuthorizedError(f"who asks for this could not be found out: {why}"))

        connection = self.connection
        if connection is None:
            user.set_exception(NotAuthorizedError("who asks for this could not be found out: the bus is gone"))
            return user
        connection.call(
            *_DBUS,
            "GetConnectionUnixUser",
            GLib.Variant("(s)", (sender,)),
            None,
            Gio.DBusCallFlags.NONE,
            _SECONDS * 1000,
            None,
            asked,
        )
        return user


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
        callers: Callers,
        interface: Gio.DBusInterfaceInfo,
        methods: Mapping[str, Callable[[Call], object]],
        properties: Callable[[], Mapping[str, object]],
    ) -> None:
        self._loop = loop
        self._callers = callers
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
        received = _Received(self, sender, interface, method, parameters, invocation)
        try:
            _check_size(parameters)
        except LimitError as error:
            received.refused(error)
            return
        self._callers.admit(sender, received)

    def answer(self, received: _Received, uid: int) -> None:
        """Answer a call that is let in."""
        message = received.invocation.get_message()
        call = Call(
            received.sender,
            uid,
            _arguments(received.parameters),
            interactive=bool(message.get_flags() & Gio.DBusMessageFlags.ALLOW_INTERACTIVE_AUTHORIZATION),
            fds=message.get_unix_fd_list(),
        )
        method = received.method
        try:
            if received.interface == _PROPERTIES:
                received.reply(self._property_call(method, received.parameters))
                return
            result = self._methods[method](call)
        except Exception as error:
            call.close()
            received.refused(error)
            return
        if isinstance(result, Future):
            result.add_done_callback(lambda done: self._reply_done(received, done))
        else:
            received.reply(self._variant(method, result))

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

    def _reply_done(self, received: _Received, done: Future[object]) -> None:
        """Answer on the loop; the answer is made on the thread that calls, since a large one takes its time."""
        # Not result(): an error that is raised here, and kept, would keep all that its frames know, files' bytes too.
        error = done.exception()
        if error is None:
            try:
                variant = self._variant(received.method, done.result())
            except Exception as caught:
                error = caught
            else:
                self._loop.call_soon(lambda: received.reply(variant))
                return
        name, sentence = _told(error, received.method)
        del error
        self._loop.call_soon(lambda: received.refuse(name, sentence))


class _Received:
    """A call as it was received, until it is answered, once.

    What was handed over with it is closed when klpd has looked at it, or at nothing of it.
    """

    def __init__(
        self,
        receiver: _Object,
        sender: str,
        interface: str,
        method: str,
        parameters: GLib.Variant,
        invocation: Gio.DBusMethodInvocation,
    ) -> None:
        self._receiver = receiver
        self._answered: Callable[[], None] = lambda: None
        self.sender = sender
        self.interface = interface
        self.method = method
        self.parameters = parameters
        self.invocation = invocation

    def admitted(self, uid: int, answered: Callable[[], None]) -> None:
        """Have it answered, and call `answered` then."""
        self._answered = answered
        try:
            self._receiver.answer(self, uid)
        except Exception as error:
            self.refused(error)
        finally:
            self._close()

    def reply(self, value: GLib.Variant | None) -> None:
        self.invocation.return_value(value)
        self._end()

    def refused(self, error: Exception) -> None:
        self.refuse(*_told(error, self.method))

    def refuse(self, name: str, sentence: str) -> None:
        self.invocation.return_dbus_error(name, sentence)
        self._close()
        self._end()

    def _close(self) -> None:
        fds = self.invocation.get_message().get_unix_fd_list()
        for fd in [] if fds is None else fds.steal_fds():
            os.close(fd)

    def _end(self) -> None:
        answered, self._answered = self._answered, lambda: None
        answered()
        if _KEEPS_INVOCATIONS:
            self.invocation._unref()


def _told(error: BaseException, method: str) -> tuple[str, str]:
    """The name and the sentence of an error that a method raised."""
    if isinstance(error, KlpdError):
        return error.dbus_name, shortened(to_utf8(error.account), _LONGEST_ERROR)
    log.error("a call of %s failed", method, exc_info=error)
    return KlpdError.dbus_name, "klpd met an error of its own; its journal has the details"


def _check_size(parameters: GLib.Variant) -> None:
    """See that arguments are no more than any call needs, before anything looks at them.  Raises LimitError."""
    size = parameters.get_size()
    if size > _LARGEST_CALL:
        raise LimitError(f"the arguments have {size} bytes; klpd takes {_LARGEST_CALL} at most")


def _arguments(parameters: GLib.Variant) -> tuple[object, ...]:
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
