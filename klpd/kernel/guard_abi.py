# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guard's programs and user space tell each other: the bytes of bpf/guard.h as values."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, Self

from klpd.kernel.names import readable

GUARD_ABI: Final = 6
"""GUARD_ABI in bpf/guard.h, to be raised with every change of it."""

_CONFIG: Final = struct.Struct("=II32sQII")
_LOAD: Final = struct.Struct("=32sI4x")
_APPROVAL: Final = struct.Struct("=QQQQBB6x")
_PERMISSION: Final = struct.Struct("=QQBB6x")
_INTENT: Final = struct.Struct("=QQII56s")
_ENTERED: Final = struct.Struct("=32sQI4x")
_LIVEPATCH: Final = struct.Struct("=56s")
_COUNTERS: Final = struct.Struct("=QQQQQQ")
_EVENT: Final = struct.Struct("=QQQIIIBBBBBB2x16s56s32s4xQ")
_PART_SIZE: Final = 128
_PARTS: Final = 16
_PATH: Final = struct.Struct(f"=QII32s{_PARTS * _PART_SIZE}s")


class GuardMode(StrEnum):
    """ENFORCE: refuse what is not approved.  OBSERVE: decide and report only.  OFF: report only."""

    ENFORCE = "enforce"
    OBSERVE = "observe"
    OFF = "off"


class Way(StrEnum):
    """By which system call a livepatch came.  ENTRY: unseen up to its entry in /sys/kernel/livepatch."""

    FILE = "finit_module"
    BUFFER = "init_module"
    ENTRY = "sysfs entry"


class Attribute(StrEnum):
    """The attributes of a livepatch in sysfs that change something when they are written."""

    ENABLED = "enabled"
    FORCE = "force"


class Lock(StrEnum):
    """Which part of the guard has decided.

    LOAD: on the bytes of a module.  ENTRY: on a livepatch that is about to be installed, and either has not passed LOAD
    or has been overtaken by another since.
    """

    LOAD = "load"
    ENTRY = "entry"


class Input(StrEnum):
    """What the bytes of a module are.  UNPARSED: not understood whole, so they may be a livepatch."""

    LIVEPATCH = "livepatch"
    UNPARSED = "unparsed"
    COMPRESSED = "compressed"


class GuardVerdict(StrEnum):
    """What the guard made of it.

    STALE: approved, or permitted, for another generation of the stack; SUPERSEDED: in another epoch; ORPHANED: by a
    klpd that has ended.  AUDITED: approved although rules deny it.  FORBIDDEN: not permitted to write, or to switch.
    COMPRESSED: answered with ENOSYS, so that the loader decompresses it itself and comes back.
    """

    ALLOWED = "allowed"
    UNAPPROVED = "unapproved"
    EXPIRED = "expired"
    STALE = "stale"
    TOO_BIG = "too-big"
    UNREADABLE = "unreadable"
    COMPRESSED = "compressed"
    OFF = "off"
    FORBIDDEN = "forbidden"
    SUPERSEDED = "superseded"
    ORPHANED = "orphaned"
    AUDITED = "audited"


class _Kind(IntEnum):
    """enum guard_event_kind"""

    LOAD = 1
    TRANSITION_START = 2
    TRANSITION_END = 3
    WRITE = 4
    GOING = 5
    SWITCH = 6


# The numbers of the enums in bpf/guard.h.
_MODES: Final = dict(enumerate(GuardMode))
_WAYS: Final = dict(enumerate(Way, 1))
_ATTRIBUTES: Final = dict(enumerate(Attribute, 1))
_INPUTS: Final = dict(enumerate(Input, 1))
_VERDICTS: Final = dict(enumerate(GuardVerdict, 1))


@dataclass(frozen=True, slots=True)
class GuardEvent:
    """A decision of the guard.  `pid` is the process, `tid` the thread that asked.

    `allowed` is what became of it: in the modes that refuse nothing it is true, whatever `verdict` says.  `digest` is
    SHA-256 in hex, empty where there is none; `module` is the name that the bytes claim, empty where they claim none.
    `token` is that of the approval that was found, good or not; 0 for none.
    """

    time_ns: int
    generation: int
    lock: Lock
    way: Way
    input: Input
    verdict: GuardVerdict
    allowed: bool
    mode: GuardMode
    pid: int
    tid: int
    uid: int
    command: str
    module: str
    size: int
    digest: str
    token: int = 0


@dataclass(frozen=True, slots=True)
class RefusedFileEvent:
    """Where the file lies whose load was just refused, since nobody had approved its bytes, or that is compressed, so
    that its loader has to unpack it and come back.

    `digest` is SHA-256 in hex, empty for what is compressed.  `file` is the path in the loader's mount namespace.
    Not told of each: not where the path is very long, nor while the ring is rather full.
    """

    time_ns: int
    pid: int
    digest: str
    file: str


@dataclass(frozen=True, slots=True)
class WriteEvent:
    """A decision of the guard on a program that opened an attribute of a livepatch for writing.

    `allowed` is what became of it, as in GuardEvent.  Writes that klpd has told of beforehand are none of these.
    """

    time_ns: int
    generation: int
    livepatch: str
    attribute: Attribute
    verdict: GuardVerdict
    allowed: bool
    pid: int
    tid: int
    uid: int
    command: str


@dataclass(frozen=True, slots=True)
class TransitionEvent:
    """A transition has started or been turned round, or it has `ended`.

    `generation` is the stack's just then; `livepatch` is empty at the end of one that the guard saw no start of.
    """

    time_ns: int
    generation: int
    livepatch: str
    ended: bool


@dataclass(frozen=True, slots=True)
class ModuleGoingEvent:
    """A livepatch's module is about to be freed: it is removed, or its init function has failed."""

    time_ns: int
    generation: int
    livepatch: str


@dataclass(frozen=True, slots=True)
class SwitchEvent:
    """A decision of the guard on a program that writes to kernel.ftrace_enabled what may switch it off.

    `allowed` is what became of it, as in GuardEvent; the event comes before the write takes effect.
    """

    time_ns: int
    verdict: GuardVerdict
    allowed: bool
    pid: int
    tid: int
    uid: int
    command: str


@dataclass(frozen=True, slots=True)
class GuardConfig:
    """What the guard is told; `object_digest` names the object that its programs come from.

    `epoch` is another whenever something else than the stack has changed that verdicts are judged from.  `ftrace_off`:
    kernel.ftrace_enabled may be switched off.  `blind`: when the programs were loaded, the kernel told no addresses.
    """

    mode: GuardMode
    object_digest: bytes
    epoch: int = 1
    ftrace_off: bool = False
    blind: bool = False
    abi: int = GUARD_ABI

    def pack(self) -> bytes:
        mode = list(GuardMode).index(self.mode)
        return _CONFIG.pack(self.abi, mode, self.object_digest, self.epoch, self.ftrace_off, self.blind)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Raises ValueError for bytes of another ABI."""
        if len(data) != _CONFIG.size:
            raise ValueError(f"{len(data)} bytes")
        abi, mode, digest, epoch, ftrace_off, blind = _CONFIG.unpack(data)
        if abi != GUARD_ABI or mode not in _MODES:
            raise ValueError(f"ABI {abi}, mode {mode}")
        return cls(_MODES[mode], digest, epoch, bool(ftrace_off), bool(blind), abi)


ANY_PROCESS: Final = 0
ANY_GENERATION: Final = (1 << 64) - 1


def load_key(digest: bytes, process: int) -> bytes:
    """The bytes with this SHA-256, loaded by that process, as the map of approvals has it."""
    return _LOAD.pack(digest, process)


def is_of_bytes(key: bytes, digest: bytes) -> bool:
    """Whether a key of that map is about the bytes with this SHA-256, whoever loads them."""
    return key.startswith(digest)


@dataclass(frozen=True, slots=True)
class GuardApproval:
    """Lets bytes be loaded, once: until when (CLOCK_MONOTONIC), in which generation of the stack and in which epoch.

    `token` is the giver's name for the verdict; `audited`: rules deny it.  `standing`: it is good in every epoch, and
    whether klpd runs or not; any other is void when the klpd that gave it has ended.
    """

    expires_ns: int
    generation: int = ANY_GENERATION
    epoch: int = 0
    token: int = 0
    audited: bool = False
    standing: bool = False

    def pack(self) -> bytes:
        return _APPROVAL.pack(
            self.expires_ns, self.generation, self.epoch, self.token, int(self.audited), int(self.standing)
        )

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        expires_ns, generation, epoch, token, audited, standing = _APPROVAL.unpack(data)
        return cls(expires_ns, generation, epoch, token, audited=bool(audited), standing=bool(standing))


class Permit(IntEnum):
    """Whether an attribute may be written to: not, in one generation of the stack, or in any of the same epoch."""

    NO = 0
    NOW = 1
    ALWAYS = 2

    @classmethod
    def of(cls, *, now: bool, always: bool = False) -> Permit:
        """`always`: if it is permitted now, it is in any generation."""
        return cls.ALWAYS if now and always else cls(now)


NO_GENERATION: Final = 0
"""The generation of a permission that was judged for no stack."""


@dataclass(frozen=True, slots=True)
class GuardPermission:
    """What may be written to a livepatch's attributes, by anybody, as judged in a generation of the stack."""

    generation: int
    enabled: Permit
    force: Permit

    def pack(self, epoch: int) -> bytes:
        """As it holds in that epoch."""
        return _PERMISSION.pack(self.generation, epoch, self.enabled, self.force)


@dataclass(frozen=True, slots=True)
class GuardIntent:
    """The one write that `process` is about to make to an attribute of a livepatch, and what it was judged on."""

    livepatch: str
    attribute: Attribute
    generation: int
    epoch: int
    process: int

    def pack(self) -> bytes:
        number = next(number for number, each in _ATTRIBUTES.items() if each is self.attribute)
        return _INTENT.pack(self.generation, self.epoch, self.process, number, self.livepatch.encode())


NO_INTENT: Final = bytes(_INTENT.size)


@dataclass(frozen=True, slots=True)
class Entered:
    """What a livepatch in force came from: the SHA-256 (hex) of its bytes, the verdict on them, and its token."""

    digest: str
    verdict: GuardVerdict
    token: int = 0

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Raises ValueError for bytes of another ABI."""
        digest, token, verdict = _ENTERED.unpack(data)
        if verdict not in _VERDICTS:
            raise ValueError(f"entered with verdict {verdict}")
        return cls(digest.hex() if any(digest) else "", _VERDICTS[verdict], token)


ANY_LIVEPATCH: Final = ""
"""The name under which the permission for all livepatches stands that have none of their own: nobody has seen them."""


def permission_key(livepatch: str) -> bytes:
    """The name of a livepatch as the map of permissions has it.  The kernel's names of modules are ASCII, and fit."""
    return _LIVEPATCH.pack(livepatch.encode())


@dataclass(frozen=True, slots=True)
class GuardCounters:
    """What the guard has counted since it was loaded.

    `generation` grows whenever the stack may have become another, by one or more.  `plain` modules were let pass as no
    livepatches, without an event; `lost` events found no room in the ring.  `tried_ns` is when the kernel last began
    to see whether a transition is complete (CLOCK_MONOTONIC); 0 for never.
    """

    generation: int = 0
    plain: int = 0
    allowed: int = 0
    refused: int = 0
    lost: int = 0
    tried_ns: int = 0

    def pack(self) -> bytes:
        return _COUNTERS.pack(self.generation, self.plain, self.allowed, self.refused, self.lost, self.tried_ns)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        return cls(*_COUNTERS.unpack(data))


Event = GuardEvent | RefusedFileEvent | WriteEvent | SwitchEvent | TransitionEvent | ModuleGoingEvent


def parse_event(data: bytes) -> Event:
    """A record of the guard's ring.  Raises ValueError for bytes of another ABI."""
    if len(data) == _PATH.size:
        return _refused_file(data)
    if len(data) != _EVENT.size:
        raise ValueError(f"an event of {len(data)} bytes")
    (
        time_ns, generation, size, tid, pid, uid, kind, way, seen, verdict, refused, mode, command, module, digest,
        token,
    ) = _EVENT.unpack(data)  # fmt: skip
    if kind == _Kind.GOING:
        return ModuleGoingEvent(time_ns, generation, readable(module))
    if kind in (_Kind.TRANSITION_START, _Kind.TRANSITION_END):
        return TransitionEvent(time_ns, generation, readable(module), kind == _Kind.TRANSITION_END)
    if kind == _Kind.WRITE:
        try:
            attribute, decided = _ATTRIBUTES[way], _VERDICTS[verdict]
        except KeyError as error:
            raise ValueError(f"an event with attribute {way}, verdict {verdict}") from error
        return WriteEvent(
            time_ns=time_ns,
            generation=generation,
            livepatch=readable(module),
            attribute=attribute,
            verdict=decided,
            allowed=not refused,
            pid=pid,
            tid=tid,
            uid=uid,
            command=readable(command),
        )
    if kind == _Kind.SWITCH:
        if verdict not in _VERDICTS:
            raise ValueError(f"an event with verdict {verdict} on a switch")
        return SwitchEvent(time_ns, _VERDICTS[verdict], not refused, pid, tid, uid, readable(command))
    if kind != _Kind.LOAD:
        raise ValueError(f"an event of kind {kind}")
    try:
        door, bytes_are, decided = _WAYS[way], _INPUTS[seen], _VERDICTS[verdict]
    except KeyError as error:
        raise ValueError(f"an event with way {way}, input {seen}, verdict {verdict}") from error
    return GuardEvent(
        time_ns=time_ns,
        generation=generation,
        lock=Lock.ENTRY if door is Way.ENTRY else Lock.LOAD,
        way=door,
        input=bytes_are,
        verdict=decided,
        allowed=not refused,
        mode=_MODES.get(mode, GuardMode.ENFORCE),
        pid=pid,
        tid=tid,
        uid=uid,
        command=readable(command),
        module=readable(module),
        size=size,
        digest=digest.hex() if any(digest) else "",
        token=token,
    )


def _refused_file(data: bytes) -> RefusedFileEvent:
    time_ns, pid, parts, digest, names = _PATH.unpack(data)
    if parts > _PARTS:
        raise ValueError(f"a path of {parts} parts")
    named = [names[at * _PART_SIZE : (at + 1) * _PART_SIZE].partition(b"\0")[0] for at in range(parts)]
    file = os.fsdecode(b"/" + b"/".join(reversed(named)))
    return RefusedFileEvent(time_ns, pid, digest.hex() if any(digest) else "", file)
