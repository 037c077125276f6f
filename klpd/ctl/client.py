# SPDX-License-Identifier: GPL-2.0-or-later
"""klpd on the system bus: the calls that klpctl makes.

It talks to the bus through Gio, without proxies: that saves asking klpd for its interface before each call.
"""

from __future__ import annotations

from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, assert_never

from gi.repository import Gio, GLib

from klpd.ctl.bus_errors import explained
from klpd.ctl.requests import Apply, Disable, Force, Remove, Revert
from klpd.model import Assessment
from klpd.plain import from_plain, to_utf8
from klpd.report import (
    BUS_NAME,
    MANAGER_INTERFACE,
    MANAGER_PATH,
    PARAMETERS,
    SECONDS,
    PlanReport,
    StandingApproval,
    Status,
    TransitionReport,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from klpd.ctl.job_events import JobEvents
    from klpd.ctl.password import PasswordAgent
    from klpd.ctl.requests import Change
    from klpd.ctl.service import JobEvent

_FOREVER: Final = (1 << 31) - 1  # G_MAXINT: somebody may be typing a password
_USUAL: Final = -1  # GDBus' own timeout, 25 s
_NO_OPTIONS: Final[Mapping[str, GLib.Variant]] = MappingProxyType({})
_METHODS: Final[dict[type[Change], str]] = {
    Disable: "Disable",
    Remove: "Remove",
    Revert: "Revert",
    Force: "Force",
}
"""The methods of the manager for the changes that take the name of a livepatch."""


class BusService:
    """A `klpd.ctl.service.Service`: klpd, running, on the system bus.

    With `may_ask`, polkit may have somebody asked for a password; `agent` does it at this terminal, if there is one.
    """

    def __init__(self, agent: PasswordAgent | None = None, *, may_ask: bool = True) -> None:
        """Raises DaemonUnavailableError where there is no system bus."""
        try:
            self._connection = Gio.bus_get_sync(Gio.BusType.SYSTEM, None)
        except GLib.Error as error:
            raise explained(error) from error
        self._connection.set_exit_on_close(False)
        self._agent = agent
        # Who stopped klpd, or never started it, does not want it started by a look at its status.
        self._flags = Gio.DBusCallFlags.NO_AUTO_START
        if may_ask:
            self._flags |= Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION

    def status(self) -> Status:
        return from_plain(Status, self._manager("GetStatus", None), place="status")

    def transition(self) -> TransitionReport | None:
        plain = self._manager("GetTransition", None)
        return from_plain(TransitionReport, plain, place="transition") if plain else None

    def check(self, file: str) -> Assessment:
        return from_plain(Assessment, self._about("Check", file)(), place="verdict")

    def approve(self, file: str, seconds: int) -> StandingApproval:
        call = self._about("Approve", file, {SECONDS: GLib.Variant("u", seconds)}, timeout=_FOREVER)
        self._prepare_to_ask()
        return from_plain(StandingApproval, call(), place="approval")

    def plan(self, change: Change) -> PlanReport:
        match change:
            case Apply():
                plan = self._applying("PlanApply", change)()
            case Disable(name) | Remove(name) | Revert(name) | Force(name):
                plan = self._manager(f"Plan{_METHODS[type(change)]}", GLib.Variant("(s)", (to_utf8(name),)))
            case _:
                assert_never(change)
        return from_plain(PlanReport, plan, place="plan")

    def start(self, change: Change) -> str:
        # Files are opened before: reading standard input may last, and Ctrl-C is to end it.
        match change:
            case Apply():
                call = self._applying("Apply", change)
            case Disable(name) | Remove(name) | Revert(name) | Force(name):
                arguments = GLib.Variant("(sa{sv})", (to_utf8(name), {}))
                call = partial(self._manager, _METHODS[type(change)], arguments)
            case _:
                assert_never(change)
        self._prepare_to_ask()
        # From here on Ctrl-C is a word about the job, and is heard when the job is followed.
        self._jobs.listen_for_interrupts()
        return from_plain(str, call(), place="job")

    def follow(self, job: str) -> Iterator[JobEvent]:
        return self._jobs.follow(job)

    def cancel(self, job: str) -> None:
        self._jobs.cancel(job)

    def reload(self) -> None:
        self._prepare_to_ask()
        self._manager("Reload", None, timeout=_FOREVER)

    def open_guard(self) -> None:
        self._prepare_to_ask()
        self._manager("OpenGuard", None, timeout=_FOREVER)

    def close_guard(self) -> None:
        self._prepare_to_ask()
        self._manager("CloseGuard", None, timeout=_FOREVER)

    def _prepare_to_ask(self) -> None:
        if self._agent is not None:
            self._agent.start()

    @cached_property
    def _jobs(self) -> JobEvents:
        from klpd.ctl.job_events import JobEvents

        return JobEvents(self._connection, self._flags)

    def _about(
        self, method: str, file: str, options: Mapping[str, GLib.Variant] = _NO_OPTIONS, *, timeout: int = _USUAL
    ) -> Callable[[], object]:
        """The call of a method that takes one module file, which is open by then."""
        from klpd.ctl.handing import hand_over

        handed = hand_over((file,))
        arguments = GLib.Variant("(hsa{sv})", (*handed.files[0], {**handed.options, **options}))
        return partial(self._manager, method, arguments, timeout=timeout, descriptors=handed.descriptors)

    def _applying(self, method: str, change: Apply) -> Callable[[], object]:
        """The call of a method that takes module files, which are open by then."""
        from klpd.ctl.handing import hand_over

        handed = hand_over(change.files)
        options = dict(handed.options)
        if change.parameters:
            given = [[to_utf8(word) for word in each] for each in change.parameters]
            options[PARAMETERS] = GLib.Variant("aas", given)
        arguments = GLib.Variant("(a(hs)a{sv})", (handed.files, options))
        return partial(self._manager, method, arguments, descriptors=handed.descriptors)

    def _manager(
        self,
        method: str,
        arguments: GLib.Variant | None,
        *,
        timeout: int = _USUAL,
        descriptors: Gio.UnixFDList | None = None,
    ) -> object:
        """Call a method of the manager's; what it answers."""
        try:
            answer, _descriptors = self._connection.call_with_unix_fd_list_sync(
                BUS_NAME,
                MANAGER_PATH,
                MANAGER_INTERFACE,
                method,
                arguments,
                None,
                self._flags,
                timeout,
                descriptors,
                None,
            )
        except GLib.Error as error:
            raise explained(error) from error
        values = answer.unpack()
        return values[0] if isinstance(values, tuple) and values else None
