# SPDX-License-Identifier: GPL-2.0-or-later
"""Records of the reader of kernel memory become livepatches; what the kernel does not have is unknown, not false."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from klpd.errors import GuardError
from klpd.kernel.memory import KernelMemory, MemoryLivepatch, parse_patch
from klpd.model import State

if TYPE_CHECKING:
    from pathlib import Path

ALL_KNOWN = 15


def record(
    *,
    known: int = ALL_KNOWN,
    truncated: int = 0,
    count: int = 2,
    replace: int = 1,
    forced: int = 0,
    coming: int = 0,
    misnamed: int = 0,
) -> bytes:
    head = struct.pack("=56s9B7x", b"klp_one", known, replace, 1, forced, 1, truncated, coming, count, misnamed)
    return head + struct.pack("=6Q", 0x1001, 3, 0x1002, 4, 99, 99).ljust(64 * 16, b"\0")


def test_a_record_is_read_with_its_states_and_no_more() -> None:
    assert parse_patch(record()) == MemoryLivepatch(
        name="klp_one",
        enabled=True,
        transition=True,
        replace=True,
        forced=False,
        states=(State(0x1001, 3), State(0x1002, 4)),
        misnamed=False,
    )


def test_an_object_that_is_named_like_the_kernel_is_told() -> None:
    assert parse_patch(record(misnamed=1)).misnamed


def test_a_livepatch_without_states_has_none() -> None:
    assert parse_patch(record(count=0)).states == ()


@pytest.mark.parametrize(("missing", "member"), [(1, "replace"), (2, "forced"), (4, "states"), (8, "misnamed")])
def test_what_this_kernel_does_not_have_is_unknown(missing: int, member: str) -> None:
    found = parse_patch(record(known=ALL_KNOWN & ~missing))
    unknown = [name for name in ("replace", "forced", "states", "misnamed") if getattr(found, name) is None]
    assert unknown == [member]


def test_one_that_is_being_initialised_is_not_in_force() -> None:
    assert parse_patch(record()).in_force
    assert not parse_patch(record(coming=1)).in_force


@pytest.mark.parametrize(
    ("enabled", "transition", "in_force"), [(True, False, True), (False, True, True), (False, False, False)]
)
def test_one_that_is_neither_enabled_nor_on_its_way_is_not_in_force(
    *, enabled: bool, transition: bool, in_force: bool
) -> None:
    found = MemoryLivepatch("klp_one", enabled, transition, replace=True, forced=False, states=())
    assert found.in_force is in_force


def test_more_states_than_can_be_read_are_unknown() -> None:
    assert parse_patch(record(truncated=1)).states is None


def test_a_reader_that_was_not_built_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(GuardError, match=r"kernel memory cannot be read: .*stack\.bpf\.o"):
        KernelMemory(tmp_path / "stack.bpf.o")
