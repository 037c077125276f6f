# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard's programs and Python agree on every number, and events are read as hostile bytes."""

from __future__ import annotations

import re
import struct
from typing import Final

import pytest

from klpd.kernel import bpf
from klpd.kernel.guard_abi import (
    ANY_LIVEPATCH,
    GUARD_ABI,
    NO_INTENT,
    Attribute,
    Entered,
    GuardApproval,
    GuardConfig,
    GuardCounters,
    GuardEvent,
    GuardIntent,
    GuardMode,
    GuardPermission,
    GuardVerdict,
    Input,
    Lock,
    ModuleGoingEvent,
    Permit,
    RefusedFileEvent,
    SwitchEvent,
    TransitionEvent,
    Way,
    WriteEvent,
    is_of_bytes,
    load_key,
    parse_event,
    permission_key,
)

HEADER: Final = bpf.object_path("guard").with_name("guard.h").read_text()
# struct guard_event, member by member
EVENT: Final = struct.Struct("=QQQ III 6B2x 16s56s32s4xQ")
DIGEST: Final = bytes(range(32))
WRITE: Final = 4


def c_enum(name: str) -> dict[str, int]:
    """The enumerators in the header, without the prefix that they share."""
    (body,) = re.findall(rf"enum {name} {{(.*?)}};", HEADER, re.DOTALL)
    return {label.split("_", 1)[1]: int(value) for label, value in re.findall(r"^\t(\w+) = (\d+),", body, re.MULTILINE)}


def event(
    *, kind: int = 1, way: int = 1, seen: int = 1, verdict: int = 2, refused: int = 1, comm: bytes = b"insmod"
) -> bytes:
    return EVENT.pack(7, 3, 4096, 11, 10, 1000, kind, way, seen, verdict, refused, 1, comm, b"klp_one", DIGEST, 17)


def test_the_abi_has_the_number_of_the_header() -> None:
    assert f"#define GUARD_ABI {GUARD_ABI}\n" in HEADER


@pytest.mark.parametrize("mode", GuardMode)
def test_modes_have_the_numbers_of_the_header(mode: GuardMode) -> None:
    _, number, _ = struct.unpack("=II48s", GuardConfig(mode, DIGEST).pack())
    assert number == c_enum("guard_mode")[mode.name]


def test_a_guard_that_was_told_nothing_is_closed() -> None:
    assert c_enum("guard_mode")["ENFORCE"] == 0


@pytest.mark.parametrize("way", Way)
def test_ways_have_the_numbers_of_the_header(way: Way) -> None:
    found = parse_event(event(way=c_enum("guard_way")[way.name]))
    assert isinstance(found, GuardEvent)
    assert found.way is way


@pytest.mark.parametrize("seen", Input)
def test_inputs_have_the_numbers_of_the_header(seen: Input) -> None:
    found = parse_event(event(seen=c_enum("guard_input")[seen.name]))
    assert isinstance(found, GuardEvent)
    assert found.input is seen


@pytest.mark.parametrize("verdict", GuardVerdict)
def test_verdicts_have_the_numbers_of_the_header(verdict: GuardVerdict) -> None:
    found = parse_event(event(verdict=c_enum("guard_verdict")[verdict.name]))
    assert isinstance(found, GuardEvent)
    assert found.verdict is verdict


def test_python_knows_every_enumerator() -> None:
    assert set(c_enum("guard_verdict")) == {each.name for each in GuardVerdict}
    assert set(c_enum("guard_way")) == {each.name for each in Way}
    assert set(c_enum("guard_attribute")) == {each.name for each in Attribute}
    assert set(c_enum("guard_input")) == {each.name for each in Input} | {"PLAIN"}
    assert set(c_enum("guard_mode")) == {each.name for each in GuardMode}


def test_a_decision_is_read_member_by_member() -> None:
    assert parse_event(event()) == GuardEvent(
        time_ns=7,
        generation=3,
        lock=Lock.LOAD,
        way=Way.FILE,
        input=Input.LIVEPATCH,
        verdict=GuardVerdict.UNAPPROVED,
        allowed=False,
        mode=GuardMode.OBSERVE,
        pid=10,
        tid=11,
        uid=1000,
        command="insmod",
        module="klp_one",
        size=4096,
        digest=DIGEST.hex(),
        token=17,
    )


def test_where_a_refused_file_lies_is_read_from_its_name_to_the_root() -> None:
    names = b"".join(name.ljust(128, b"\0") for name in (b"klp.ko\0and what was there", b"a b", b"caf\xe9", b"?"))
    record = struct.pack("=QII32s2048s", 7, 10, 3, DIGEST, names)
    assert parse_event(record) == RefusedFileEvent(7, 10, DIGEST.hex(), "/caf\udce9/a b/klp.ko")
    packed = struct.pack("=QII32s2048s", 7, 10, 1, bytes(32), names)
    assert parse_event(packed) == RefusedFileEvent(7, 10, "", "/klp.ko")


@pytest.mark.parametrize("attribute", Attribute)
def test_attributes_have_the_numbers_of_the_header(attribute: Attribute) -> None:
    found = parse_event(event(kind=WRITE, way=c_enum("guard_attribute")[attribute.name], seen=0))
    assert isinstance(found, WriteEvent)
    assert found.attribute is attribute


def test_a_write_is_read_member_by_member() -> None:
    assert parse_event(event(kind=WRITE, way=2, seen=0, verdict=9)) == WriteEvent(
        time_ns=7,
        generation=3,
        livepatch="klp_one",
        attribute=Attribute.FORCE,
        verdict=GuardVerdict.FORBIDDEN,
        allowed=False,
        pid=10,
        tid=11,
        uid=1000,
        command="insmod",
    )


def test_a_switch_is_read_member_by_member() -> None:
    kind = c_enum("guard_event_kind")["SWITCH"]
    assert parse_event(event(kind=kind, way=0, seen=0, verdict=9, comm=b"sysctl")) == SwitchEvent(
        time_ns=7, verdict=GuardVerdict.FORBIDDEN, allowed=False, pid=10, tid=11, uid=1000, command="sysctl"
    )


def test_a_permission_is_written_member_by_member() -> None:
    assert GuardPermission(7, enabled=Permit.ALWAYS, force=Permit.NO).pack(3) == struct.pack("=QQBB6x", 7, 3, 2, 0)


def test_a_permission_stands_under_the_name_with_zeros_after_it() -> None:
    assert permission_key("klp_one") == b"klp_one".ljust(56, b"\0")
    assert permission_key(ANY_LIVEPATCH) == bytes(56)


def test_an_intent_is_written_member_by_member() -> None:
    intent = GuardIntent("klp_one", Attribute.FORCE, generation=7, epoch=3, process=4711)
    assert intent.pack() == struct.pack("=QQII56s", 7, 3, 4711, 2, b"klp_one")
    assert bytes(80) == NO_INTENT


def test_what_entered_is_read_with_its_verdict() -> None:
    assert Entered.unpack(struct.pack("=32sQI4x", DIGEST, 17, 12)) == Entered(DIGEST.hex(), GuardVerdict.AUDITED, 17)
    with pytest.raises(ValueError, match="verdict 99"):
        Entered.unpack(struct.pack("=32sQI4x", DIGEST, 17, 99))


def test_an_approval_stands_under_its_bytes_and_its_process() -> None:
    key = load_key(DIGEST, 4711)
    assert key == struct.pack("=32sI4x", DIGEST, 4711)
    assert is_of_bytes(key, DIGEST)
    assert not is_of_bytes(key, bytes(32))


def test_a_module_that_goes_is_told_by_its_name() -> None:
    found = parse_event(event(kind=c_enum("guard_event_kind")["GOING"], way=0, seen=0, verdict=0))
    assert found == ModuleGoingEvent(time_ns=7, generation=3, livepatch="klp_one")


@pytest.mark.parametrize(("name", "ended"), [("TRANSITION_START", False), ("TRANSITION_END", True)])
def test_a_transition_is_told_by_its_livepatch(name: str, ended: bool) -> None:
    found = parse_event(event(kind=c_enum("guard_event_kind")[name], way=0, seen=0, verdict=0))
    assert found == TransitionEvent(time_ns=7, generation=3, livepatch="klp_one", ended=ended)


def test_a_digest_that_was_not_taken_is_empty() -> None:
    found = parse_event(event().replace(DIGEST, bytes(32)))
    assert isinstance(found, GuardEvent)
    assert found.digest == ""


def test_names_cannot_steer_a_terminal() -> None:
    found = parse_event(event(comm=b"\x1b[2Jx\n\xff"))
    assert isinstance(found, GuardEvent)
    assert found.command == "\N{REPLACEMENT CHARACTER}[2Jx" + 2 * "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        event()[:-1],
        event() + b"\0",
        event(way=9),
        event(seen=0),
        event(verdict=99),
        event(kind=77),
        event(kind=4, way=3),
        event(kind=4, verdict=99),
        event(kind=6, verdict=99),
    ],
    ids=[
        *("nothing", "short", "long", "way", "input", "verdict", "kind", "attribute", "verdict on a write"),
        "verdict on a switch",
    ],
)
def test_an_event_of_another_abi_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="event"):
        parse_event(data)


def test_a_configuration_is_read_as_it_was_written() -> None:
    config = GuardConfig(GuardMode.OBSERVE, DIGEST, epoch=4711, ftrace_off=True, blind=True)
    assert GuardConfig.unpack(config.pack()) == config


def test_a_guard_that_was_told_nothing_keeps_ftrace_on() -> None:
    assert GuardConfig(GuardMode.ENFORCE, DIGEST).pack().endswith(bytes(8))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack("=II32sQII", GUARD_ABI + 1, 0, DIGEST, 0, 0, 0),
        struct.pack("=II32sQII", GUARD_ABI, 9, DIGEST, 0, 0, 0),
    ],
    ids=["nothing", "abi", "mode"],
)
def test_the_configuration_of_another_abi_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        GuardConfig.unpack(data)


def test_approvals_and_counters_are_read_as_they_were_written() -> None:
    approval = GuardApproval(5, 6, 7, 8, audited=True, standing=True)
    assert GuardApproval.unpack(approval.pack()) == approval
    assert GuardCounters.unpack(GuardCounters(1, 2, 3, 4, 5, 6).pack()) == GuardCounters(1, 2, 3, 4, 5, 6)
