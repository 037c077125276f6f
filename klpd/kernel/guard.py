# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard (bpf/guard.bpf.c) as user space has it: closing the gate for livepatches, and letting single ones through.

The guard lives in the kernel, by pins in a directory of bpffs, and does not care whether klpd runs.  A Guard is a hold
on its programs and maps: whoever has none may take one from the pins, at any time.  Removing the pins opens the gate
when nobody has a hold on it any more, and not before; who has one may pin it again.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import sys
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from errno import ENOENT
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from klpd.errors import GuardError, KernelError
from klpd.kernel import bpf, guard_checks, guard_selftest, switches
from klpd.kernel.bpf.handles import BpfObject, Link, Map, Ring, kernel_functions
from klpd.kernel.cgroups import root_cgroup
from klpd.kernel.guard_abi import (
    ANY_GENERATION,
    ANY_LIVEPATCH,
    ANY_PROCESS,
    NO_GENERATION,
    NO_INTENT,
    Attribute,
    Entered,
    Event,
    GuardApproval,
    GuardConfig,
    GuardCounters,
    GuardEvent,
    GuardIntent,
    GuardMode,
    GuardPermission,
    ModuleGoingEvent,
    Permit,
    RefusedFileEvent,
    SwitchEvent,
    TransitionEvent,
    WriteEvent,
    is_of_bytes,
    load_key,
    parse_event,
    permission_key,
)
from klpd.kernel.perf import dummy_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from klpd.kernel.bpf.handles import Descriptor, Program

log = logging.getLogger(__name__)

__all__ = [
    "ANY_GENERATION",
    "ANY_LIVEPATCH",
    "ANY_PROCESS",
    "NO_GENERATION",
    "Attribute",
    "Entered",
    "Event",
    "Guard",
    "GuardApproval",
    "GuardCounters",
    "GuardEvent",
    "GuardMode",
    "GuardPermission",
    "GuardState",
    "GuardStatus",
    "Hook",
    "ModuleGoingEvent",
    "Permit",
    "RefusedFileEvent",
    "SwitchEvent",
    "TransitionEvent",
    "WriteEvent",
]

DIRECTORY: Final = Path(guard_checks.BPFFS) / "klpd"
_CURRENT: Final = "guard"
_MAPS: Final = ("config", "counters", "approvals", "permissions", "intents", "entered", "alive", "events")
_KEY: Final = (0).to_bytes(4, "little")
_FTRACE_OFF: Final = (
    "kernel.ftrace_enabled is 0, so the kernel calls none of its programs: of livepatches that are not approved, those "
    "of modules that are not loaded come into force, and the code of the others runs; sysctl kernel.ftrace_enabled=1"
)
"""A livepatch of an object that is loaded cannot be enabled then (register_ftrace_function says EBUSY); its init
function and pre_patch callbacks are called before that.  An object that is not loaded has nothing registered
(klp_enable_patch in kernel/livepatch/core.c)."""
_BLIND: Final = (
    "the kernel told no addresses when the guard was loaded (kernel.kptr_restrict=2), so it does not see which "
    "transition runs, and klpd's reversal may come when one has just ended; sysctl kernel.kptr_restrict=1, and "
    "systemctl restart klpd"
)
_ANOTHERS: Final = (
    "that of another version of klpd is pinned in {} and refuses each livepatch until the next boot, or until its pins "
    "are removed"
)
_NO_MODULES: Final = (
    "kernel.modules_disabled is 1: until the next boot the kernel loads and removes no module, so no livepatch comes "
    "in, whoever asks, and there is nothing to test the guard with"
)


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a program of the guard attaches: a function of the kernel, and what is left open without it.

    `sysctls`: not to the function, but to the root cgroup, for which the function calls it.
    """

    program: str
    function: str
    leaves_open: str
    sysctls: bool = False


HOOKS: Final = (
    Hook("load_file", "bpf_lsm_kernel_post_read_file", "livepatches loaded with finit_module are not refused"),
    Hook("load_buffer", "bpf_lsm_kernel_post_load_data", "livepatches loaded with init_module are not refused"),
    Hook("entry_created", "bpf_lsm_kernfs_init_security", "livepatches that came by a way not foreseen are installed"),
    Hook("attribute_opened", "bpf_lsm_file_open", "any program may disable livepatches, and force transitions"),
    Hook("transition_started", "klp_start_transition", "approvals outlive the start of another transition"),
    Hook("transition_ended", "klp_complete_transition", "approvals outlive the end of another transition"),
    Hook("disabled_left", "klp_free_patch_async", "approvals may outlive the moment in which a livepatch leaves"),
    Hook("replaced_left", "klp_free_replaced_patches_async", "approvals may outlive the moment of a replacement"),
    Hook(
        "transition_tried", "klp_try_complete_transition", "klpd's reversal may come when a transition has just ended"
    ),
    Hook("module_going", "klp_module_going", "approvals outlive a livepatch that could not be installed"),
    Hook(
        "ftrace_switched",
        "__cgroup_bpf_run_filter_sysctl",
        "root may set kernel.ftrace_enabled to 0, and the kernel calls none of the others then",
        sysctls=True,
    ),
)
LOAD_HOOKS: Final = HOOKS[:2]
LOCKS: Final = HOOKS[:4]
SWITCH: Final = HOOKS[-1]


class GuardState(StrEnum):
    """CLOSED: unapproved livepatches are refused.  OBSERVING: reported only.  OPEN: neither, or not pinned any more.

    INEFFECTIVE: loaded, but its self-test failed.
    """

    CLOSED = "closed"
    OBSERVING = "observing"
    OPEN = "open"
    INEFFECTIVE = "ineffective"


@dataclass(frozen=True, slots=True)
class GuardStatus:
    """How the guard is.  `reason` is empty where it does all that it is for; `note` is no lack of the guard's.

    `recursion_misses` counts how often the kernel skipped one of its programs: anything but 0 is an alarm.
    """

    state: GuardState
    reason: str
    attached: tuple[Hook, ...]
    missing: tuple[Hook, ...]
    recursion_misses: int
    counters: GuardCounters
    note: str = ""


class Guard:
    """A hold on the guard that is pinned in `directory`.  Its methods may be called from any thread."""

    def __init__(self, directory: Path = DIRECTORY, handed: Mapping[str, int] | None = None) -> None:
        """Take hold of the guard that is there, or of the one whose descriptors are `handed`, by the names of pins.

        Raises KernelError: ENOENT where there is none; GuardError for one of another klpd.
        """
        self._directory = directory
        self._complaints: tuple[str, ...] = ()
        self._switch_complaints: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._epochs = threading.Lock()
        self._kept: list[Event] = []
        with ExitStack() as opened:
            at = directory / _CURRENT
            self._maps = {name: opened.enter_context(_held(Map, at / name, handed)) for name in _MAPS}
            self._links: dict[str, Link] = {}
            for hook in HOOKS:
                with _unless_missing():
                    self._links[hook.program] = opened.enter_context(_held(Link, at / hook.program, handed))
            switch = self._links.get(SWITCH.program)
            self._switch: Program | None = None
            if switch is not None and switch.calls(SWITCH.program):
                self._switch = opened.enter_context(switch.program())
            self.object_digest = _read_config(self._maps["config"]).object_digest
            _check_together(self._links.values(), self._maps, at)
            self._pins = {name: _identity(at / name) for name in (*_MAPS, *self._links)}
            self._ring = Ring(self._maps["events"])
            opened.pop_all()

    @classmethod
    def close_gate(
        cls,
        mode: GuardMode = GuardMode.ENFORCE,
        directory: Path = DIRECTORY,
        handed: Mapping[str, int] | None = None,
        *,
        ftrace_off: bool = False,
    ) -> Guard:
        """Have a guard of this version, in this mode: the one that is pinned, or whose descriptors are `handed`, or
        else a new one.

        A guard of another version is removed when the new one is attached, so the gate is at no moment open.  Ends with
        the self-test, whose outcome `status` tells; events from before are kept for this Guard's `read_events`.  Raises
        GuardError where this kernel cannot have a guard, or KernelError.
        """
        path = bpf.object_path("guard")
        try:
            digest = hashlib.sha256(path.read_bytes()).digest()
        except OSError as error:
            raise GuardError(f"no livepatch guard: {path} cannot be read ({error.strerror}); see `make bpf`") from error
        # What is there already, nothing hinders.
        hindered = "; ".join(guard_checks.obstacles())
        if hindered and not handed and not (directory / _CURRENT).exists():
            raise GuardError(f"no livepatch guard: {hindered}")
        with _locked_if_there(directory):
            guard = _adopted(digest, directory, handed)
            if guard is None:
                if hindered:
                    kept = f"; {_ANOTHERS.format(directory)}" if (directory / _CURRENT).exists() else ""
                    raise GuardError(f"no livepatch guard: {hindered}{kept}")
                blind = switches.addresses_are_hidden()
                _install(path, GuardConfig(mode, digest, ftrace_off=ftrace_off, blind=blind), directory)
                guard = cls(directory)
        guard.pin_again()
        guard.set_mode(mode, ftrace_off=ftrace_off)
        guard.test()
        return guard

    def set_mode(self, mode: GuardMode, *, ftrace_off: bool | None = None) -> None:
        """`ftrace_off`: whether kernel.ftrace_enabled may be switched off; None: as it was.

        Raises KernelError.  A new epoch begins, as with `next_epoch`.
        """
        self._begin_epoch(mode, ftrace_off=ftrace_off)

    def next_epoch(self) -> None:
        """Have everything void that was approved or permitted: what it was judged from is no longer so.

        To be called when that has changed, and before anybody is told so.  Raises KernelError.
        """
        self._begin_epoch()

    def _begin_epoch(self, mode: GuardMode | None = None, *, ftrace_off: bool | None = None) -> None:
        with _locked_if_there(self._directory), self._epochs:
            config = _read_config(self._maps["config"])
            following = replace(
                config,
                epoch=config.epoch + 1,
                mode=config.mode if mode is None else mode,
                ftrace_off=config.ftrace_off if ftrace_off is None else ftrace_off,
            )
            self._maps["config"].put(_KEY, following.pack())

    def epoch(self) -> int:
        """The present epoch, never 0.  To be read before what a verdict is judged from.  Raises KernelError."""
        return _read_config(self._maps["config"]).epoch

    def claim(self) -> None:
        """Have approvals be good that this process gives, until it ends, however it does.  Raises KernelError."""
        event = dummy_event()
        try:
            self._maps["alive"].put(_KEY, event.to_bytes(4, sys.byteorder))
        finally:
            os.close(event)

    def permit(self, permissions: Mapping[str, GuardPermission], epoch: int) -> None:
        """What may be written to the attributes of each livepatch, as judged in an epoch: what is not here is not
        permitted.

        The permission under ANY_LIVEPATCH is for all that have none of their own.  Raises KernelError.
        """
        wanted = {permission_key(name): permission.pack(epoch) for name, permission in permissions.items()}
        there = self._maps["permissions"]
        for key in set(there.keys()) - set(wanted):
            there.delete(key)
        for key, value in wanted.items():
            there.put(key, value)

    @property
    def mode(self) -> GuardMode:
        """As the kernel has it.  Raises KernelError."""
        return _read_config(self._maps["config"]).mode

    @contextmanager
    def writing(self, livepatch: str, attribute: Attribute, *, generation: int, epoch: int) -> Iterator[None]:
        """While this lasts, this process may open the livepatch's attribute for writing, if the stack is still of that
        generation and it is still that epoch: ESTALE else, and EAGAIN where it would come too close to the end of a
        transition.  One at a time.  Raises KernelError.
        """
        intent = GuardIntent(livepatch, attribute, generation, epoch, os.getpid())
        self._maps["intents"].put(_KEY, intent.pack())
        try:
            yield
        finally:
            self._maps["intents"].put(_KEY, NO_INTENT)

    def approve(self, digest: bytes, approval: GuardApproval, process: int = ANY_PROCESS) -> None:
        """Let the livepatch with these bytes' SHA-256 be loaded, by that process.  Raises KernelError."""
        self._maps["approvals"].put(load_key(digest, process), approval.pack())

    def withdraw(self, digest: bytes) -> bool:
        """Take all approvals of these bytes back.  False if there is none: it was never given, or is used up.

        Raises KernelError.
        """
        approvals = self._maps["approvals"]
        withdrawn = [approvals.delete(key) for key in list(approvals.keys()) if is_of_bytes(key, digest)]
        return any(withdrawn)

    def entered(self, livepatch: str) -> Entered | None:
        """What a livepatch in force came from, if the guard saw it enter.  Raises KernelError."""
        value = self._maps["entered"].get(permission_key(livepatch))
        return None if value is None else Entered.unpack(value)

    def entered_digest(self, livepatch: str) -> str | None:
        """The SHA-256 (hex) of the bytes that it came from; None where nobody saw them.  Raises KernelError."""
        entered = self.entered(livepatch)
        return None if entered is None else entered.digest or None

    def generation(self) -> int:
        """The stack's generation, never 0.  To be read before the stack that an approval is judged against."""
        return self.counters().generation

    def counters(self) -> GuardCounters:
        """Raises KernelError."""
        value = self._maps["counters"].get(_KEY)
        return GuardCounters() if value is None else GuardCounters.unpack(value)

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._ring.fileno()

    def read_events(self) -> list[Event]:
        """The events since the last call, without waiting.  The self-test's own are not among them."""
        with self._lock:
            events, self._kept = [*self._kept, *self._take_events()], []
        return events

    def test(self) -> tuple[str, ...]:
        """Try to load an impossible livepatch by each way, and to write nonsense to the switch that the guard keeps;
        what is wrong with how it took that.
        """
        with self._lock:
            self._kept += self._take_events()
            loads = guard_selftest.try_to_load()
            switch = guard_selftest.try_to_switch() if SWITCH.program in self._links else None
            events = self._take_events()
            self._kept += [each for each in events if not guard_selftest.is_own(each, loads)]
        config = _read_config(self._maps["config"])
        self._complaints = tuple(loads.complaints(events, config.mode))
        if switch is not None:
            self._switch_complaints = tuple(switch.complaints(events, config.mode, may=config.ftrace_off))
        return self._complaints + self._switch_complaints

    def test_again(self) -> None:
        """Make the self-test anew, if the last one had complaints and this one may have none.  Raises KernelError."""
        doubted = bool(self._complaints or self._switch_complaints)
        if doubted and not switches.ftrace_is_off() and not switches.modules_are_disabled():
            self.test()

    def status(self) -> GuardStatus:
        """How the guard is now, with the outcome of the last self-test.  Raises KernelError."""
        attached, misses = [], 0
        for hook in HOOKS:
            link = self._links.get(hook.program)
            if link is not None and link.calls(hook.program):
                with link.program() as program:
                    misses += program.statistics().recursion_misses
                attached.append(hook)
        missing = tuple(hook for hook in HOOKS if hook not in attached)
        config = _read_config(self._maps["config"])
        no_modules = switches.modules_are_disabled()
        complaints = [] if no_modules else list(self._complaints)
        if switches.ftrace_is_off():
            complaints.append(_FTRACE_OFF)
        state = _state(config.mode, missing, complaints)
        reasons = [hook.leaves_open for hook in missing] + complaints
        if SWITCH not in missing:
            reasons += self._switch_complaints
        if config.blind:
            reasons.append(_BLIND)
        if self.unpinned():
            reasons.append(
                f"its pins in {self._directory} are gone, and klpd alone keeps it: the gate opens when klpd is "
                f"stopped; klpd pins it again where there is a bpf file system (mount -t bpf bpf {guard_checks.BPFFS})"
            )
        if misses:
            reasons.append(f"the kernel has skipped it {misses} times: livepatches may have passed unseen")
        note = _NO_MODULES if no_modules else ""
        return GuardStatus(state, "; ".join(reasons), tuple(attached), missing, misses, self.counters(), note)

    def is_whole(self) -> bool:
        """Whether nobody has detached any of its programs.  Raises KernelError."""
        return all(link.calls(program) for program, link in self._links.items())

    def is_blind(self) -> bool:
        """Whether its programs were loaded without the addresses of the kernel's symbols.  Raises KernelError."""
        return _read_config(self._maps["config"]).blind

    def unpinned(self) -> tuple[str, ...]:
        """Which of its pins are gone, or lead to something else."""
        at = self._directory / _CURRENT
        return tuple(name for name, known in self._pins.items() if known is None or _identity(at / name) != known)

    def attach_again(self) -> bool:
        """Attach anew what others have detached (Link.calls); whether that was so.  To be pinned by `pin_again`.

        Raises KernelError.
        """
        link = self._links.get(SWITCH.program)
        if link is None or self._switch is None or link.calls(SWITCH.program):
            return False
        with root_cgroup() as cgroup, Link.to_sysctls(self._switch, cgroup) as attached:
            os.dup2(attached.fd, link.fd, inheritable=False)
        pin = self._directory / _CURRENT / SWITCH.program
        if self._pins[SWITCH.program] is not None and _identity(pin) == self._pins[SWITCH.program]:
            with _locked(self._directory):
                pin.unlink()
        self._pins[SWITCH.program] = None
        return True

    def pin_again(self) -> bool:
        """Pin what is not pinned any more, where that can be; whether all is.

        What is pinned in its place by somebody else stays.  Raises KernelError.
        """
        if not self.unpinned():
            return True
        if not guard_checks.has_bpffs():
            return False
        with _locked(self._directory):
            at = self._directory / _CURRENT
            at.mkdir(mode=0o700, exist_ok=True)
            for name in self.unpinned():
                if _identity(at / name) is None:
                    held: Descriptor = self._maps[name] if name in self._maps else self._links[name]
                    held.pin(at / name)
                    self._pins[name] = _identity(at / name)
        return not self.unpinned()

    @contextmanager
    def descriptors(self) -> Iterator[dict[str, int]]:
        """All that it consists of, by the names of its pins, for another process to keep.  Raises KernelError."""
        with ExitStack() as opened:
            maps = {name: opened.enter_context(each.reopened()) for name, each in self._maps.items()}
            yield {name: each.fd for name, each in (*maps.items(), *self._links.items())}

    def remove(self) -> None:
        """Let go of it, and open the gate: the kernel lets go of the guard a moment later (bpf_link_put).

        Raises KernelError.
        """
        with _locked(self._directory):
            for each in self._directory.iterdir():
                shutil.rmtree(each)
        self._pins.clear()
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._let_go_of_switch()

    def _take_events(self) -> list[Event]:
        return [parse_event(each) for each in self._ring.take()]

    def _let_go_of_switch(self) -> None:
        if self._switch is not None:
            self._switch.close()
            self._switch = None

    def release(self) -> None:
        """Let go of the guard, which stays as it is."""
        self._ring.close()
        self._let_go_of_switch()
        for each in (*self._maps.values(), *self._links.values()):
            each.close()


def _check_together(links: Iterable[Link], maps: Mapping[str, Map], at: Path) -> None:
    """See that the maps are those of the programs, and not others that were pinned in their place.

    Raises GuardError, and KernelError.
    """
    used: set[int] = set()
    for link in links:
        with link.program() as program:
            used |= program.maps()
    for number in used:
        with Map.numbered(number) as each:
            if each.name in maps and maps[each.name].id != number:
                raise GuardError(f"{at / each.name} is no map of the guard's: somebody has put it there")


def _state(mode: GuardMode, missing: tuple[Hook, ...], complaints: Sequence[str]) -> GuardState:
    if all(hook in missing for hook in LOCKS) or mode is GuardMode.OFF:
        return GuardState.OPEN
    if complaints or any(hook in missing for hook in LOAD_HOOKS):
        return GuardState.INEFFECTIVE
    return GuardState.CLOSED if mode is GuardMode.ENFORCE else GuardState.OBSERVING


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Make the directory, and keep others from changing what is pinned there."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)
    except OSError as error:
        raise KernelError.of(f"cannot change what is pinned in {directory}", error) from error


def _read_config(config: Map) -> GuardConfig:
    try:
        return GuardConfig.unpack(config.get(_KEY) or b"")
    except ValueError as error:
        raise GuardError(f"the pinned guard is of another version of klpd ({error})") from error


@contextmanager
def _locked_if_there(directory: Path) -> Iterator[None]:
    """The same, but where nothing can be pinned there is nobody else to change it."""
    if guard_checks.has_bpffs():
        with _locked(directory):
            yield
    else:
        yield


_Held = TypeVar("_Held", Map, Link)


def _held(kind: type[_Held], path: Path, handed: Mapping[str, int] | None) -> _Held:
    """What is pinned at a path, or was handed over by that name.  Raises KernelError."""
    if handed is None:
        return kind.pinned(path)
    if path.name not in handed:
        raise KernelError(f"{path.name} was not handed over", ENOENT)
    with kind(os.dup(handed[path.name])) as shared:
        return shared.reopened()


@contextmanager
def _unless_missing() -> Iterator[None]:
    try:
        yield
    except KernelError as error:
        if error.errno != ENOENT:
            raise


def _identity(pin: Path) -> tuple[int, int] | None:
    """Which pin it is; None where there is none."""
    try:
        status = pin.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _adopted(digest: bytes, directory: Path, handed: Mapping[str, int] | None) -> Guard | None:
    """The pinned guard, or the one that was handed over, if it is whole and has its programs from the same object.

    Not one that would be better if it were loaded now.
    """
    names = (*_MAPS, *(hook.program for hook in _available_hooks()))
    pinned = all((directory / _CURRENT / name).exists() for name in names)
    if not pinned and (handed is None or not all(name in handed for name in names)):
        return None
    try:
        guard = Guard(directory, None if pinned else handed)
    except (GuardError, KernelError):
        return None
    if (
        guard.object_digest != digest
        or not guard.is_whole()
        or (guard.is_blind() and not switches.addresses_are_hidden())
    ):
        guard.release()
        return None
    return guard


def _available_hooks() -> tuple[Hook, ...]:
    there = kernel_functions(frozenset(hook.function for hook in HOOKS))
    return tuple(hook for hook in HOOKS if hook.function in there)


def _install(path: Path, config: GuardConfig, directory: Path) -> None:
    """Attach a new guard beside what is there, put its pins in place of the old ones', and only then remove those.

    Pins have no dots in their names (kernel/bpf/inode.c, bpf_lookup).
    """
    token = secrets.token_hex(8)
    coming, going = directory / f"coming-{token}", directory / f"going-{token}"
    coming.mkdir(mode=0o700)
    try:
        hooks, programs = _loaded(path)
        with programs:
            _pin_guard(programs, hooks, config, coming)
    except KernelError:
        shutil.rmtree(coming)
        raise
    current = directory / _CURRENT
    if current.exists():
        _take_over(current / "entered", coming / "entered")
        current.rename(going)
    coming.rename(current)
    for each in directory.iterdir():
        if each != current:
            shutil.rmtree(each)


def _take_over(former: Path, coming: Path) -> None:
    """Let a new guard know what the former one saw enter, if that kept it in the same way."""
    try:
        with Map.pinned(former) as seen, Map.pinned(coming) as known:
            for key in seen.keys():  # noqa: SIM118
                value = seen.get(key)
                if value is not None and known.get(key) is None:
                    known.put(key, value)
    except (KernelError, ValueError) as error:
        log.info("it is not known what the livepatches in force came from: %s", error)


def _loaded(path: Path) -> tuple[tuple[Hook, ...], BpfObject]:
    """The guard's object with the programs that this kernel takes, and what these attach to.

    One kernel lets a program on sysctls ask less than another (sysctl_func_proto in kernel/bpf/cgroup.c): where it
    takes all others, there is to be a guard without that one.
    """
    available = _available_hooks()
    try:
        return available, _load(path, available)
    except KernelError as error:
        if SWITCH not in available:
            raise
        fewer = tuple(hook for hook in available if hook != SWITCH)
        programs = _load(path, fewer)
        log.warning("the guard does without %s: %s", SWITCH.function, error)
        return fewer, programs


def _load(path: Path, hooks: Sequence[Hook]) -> BpfObject:
    programs = BpfObject(path)
    try:
        for hook in HOOKS:
            if hook not in hooks:
                programs.leave_out(hook.program)
        programs.load()
    except KernelError:
        programs.close()
        raise
    return programs


def _attach(programs: BpfObject, hook: Hook) -> Link:
    if not hook.sysctls:
        return programs.attach(hook.program)
    with programs.program(hook.program) as program, root_cgroup() as cgroup:
        return Link.to_sysctls(program, cgroup)


def _pin_guard(programs: BpfObject, hooks: Sequence[Hook], config: GuardConfig, directory: Path) -> None:
    values = {"config": config.pack(), "counters": GuardCounters(generation=1).pack()}
    for name in _MAPS:
        with programs.map(name) as each:
            if name in values:
                each.put(_KEY, values[name])
            each.pin(directory / name)
    for hook in hooks:
        try:
            link = _attach(programs, hook)
        except KernelError as error:
            log.warning("the guard does without %s: %s", hook.function, error)
            continue
        with link:
            link.pin(directory / hook.program)
