# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guard's programs and user space tell each other: the bytes of bpf/guard.h as values."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, Self

from klpd.kernel.names import readable

GUARD_ABI: Final = 3
"""GUARD_ABI in bpf/guard.h, to be raised with every change of it."""

_CONFIG: Final = struct.Struct("=II32sQ")
_APPROVAL: Final = struct.Struct("=QQ")
_PERMISSION: Final = struct.Struct("=QBB6x")
_LIVEPATCH: Final = struct.Struct("=56s")
_COUNTERS: Final = struct.Struct("=QQQQQ")
_EVENT: Final = struct.Struct("=QQQIIIBBBBB3x16s56s32s4x")


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

    STALE: approved, or permitted, for another generation of the stack.  FORBIDDEN: not permitted to write.
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


class _Kind(IntEnum):
    """enum guard_event_kind"""

    LOAD = 1
    TRANSITION_START = 2
    TRANSITION_END = 3
    WRITE = 4


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
    """

    time_ns: int
    generation: int
    lock: Lock
    way: Way
    input: Input
    verdict: GuardVerdict
    allowed: bool
    pid: int
    tid: int
    uid: int
    command: str
    module: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class WriteEvent:
    """A decision of the guard on a program that opened an attribute of a livepatch for writing.

    `allowed` is what became of it, as in GuardEvent.  klpd's own writes are none of these.
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
class GuardConfig:
    """What the guard is told; `object_digest` names the object that its programs come from, `klpd` is the id of the
    cgroup whose writes to the attributes of livepatches it lets pass, 0 for none.
    """

    mode: GuardMode
    object_digest: bytes
    klpd: int = 0
    abi: int = GUARD_ABI

    def pack(self) -> bytes:
        return _CONFIG.pack(self.abi, list(GuardMode).index(self.mode), self.object_digest, self.klpd)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Raises ValueError for bytes of another ABI."""
        if len(data) != _CONFIG.size:
            raise ValueError(f"{len(data)} bytes")
        abi, mode, digest, klpd = _CONFIG.unpack(data)
        if abi != GUARD_ABI or mode not in _MODES:
            raise ValueError(f"ABI {abi}, mode {mode}")
        return cls(_MODES[mode], digest, klpd, abi)


@dataclass(frozen=True, slots=True)
class GuardApproval:
    """How long an approval is good (CLOCK_MONOTONIC), and for which generation; 0 is any."""

    expires_ns: int
    generation: int

    def pack(self) -> bytes:
        return _APPROVAL.pack(self.expires_ns, self.generation)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        return cls(*_APPROVAL.unpack(data))


class Permit(IntEnum):
    """Whether an attribute may be written to: not, in one generation of the stack, or in any."""

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

    def pack(self) -> bytes:
        return _PERMISSION.pack(self.generation, self.enabled, self.force)


ANY_LIVEPATCH: Final = ""
"""The name under which the permission for each livepatch stands, those included that nobody has seen yet."""


def permission_key(livepatch: str) -> bytes:
    """The name of a livepatch as the map of permissions has it.  The kernel's names of modules are ASCII, and fit."""
    return _LIVEPATCH.pack(livepatch.encode())


@dataclass(frozen=True, slots=True)
class GuardCounters:
    """What the guard has counted since it was loaded.

    `generation` grows at each start and end of a transition, by one or more.  `plain` modules were let pass as no
    livepatches, without an event; `lost` events found no room in the ring.
    """

    generation: int = 0
    plain: int = 0
    allowed: int = 0
    refused: int = 0
    lost: int = 0

    def pack(self) -> bytes:
        return _COUNTERS.pack(self.generation, self.plain, self.allowed, self.refused, self.lost)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        return cls(*_COUNTERS.unpack(data))


def parse_event(data: bytes) -> GuardEvent | WriteEvent | TransitionEvent:
    """A record of the guard's ring.  Raises ValueError for bytes of another ABI."""
    if len(data) != _EVENT.size:
        raise ValueError(f"an event of {len(data)} bytes")
    (time_ns, generation, size, tid, pid, uid, kind, way, seen, verdict, refused, command, module, digest) = (
        _EVENT.unpack(data)
    )
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
        pid=pid,
        tid=tid,
        uid=uid,
        command=readable(command),
        module=readable(module),
        size=size,
        digest=digest.hex() if any(digest) else "",
    )
