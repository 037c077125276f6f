# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's command line for the test host."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.accel import Accel
from tests.vm.qemu import Machine


def arguments(accel: Accel, *, throw_away: bool) -> list[str]:
    machine = Machine(accel, memory=512, cpus=2)
    return machine.arguments(ram=Path("/a,b/ram"), disk=Path("/a,b/disk"), throw_away=throw_away)


def test_a_comma_in_a_path_does_not_end_it() -> None:
    words = arguments(Accel.TCG, throw_away=True)
    assert any("mem-path=/a,,b/ram," in word for word in words)
    assert any("file=/a,,b/disk," in word for word in words)


@pytest.mark.parametrize(("throw_away", "share", "snapshot"), [(True, "off", "on"), (False, "on", "off")])
def test_a_saved_machine_is_written_to_only_where_it_is_made(*, throw_away: bool, share: str, snapshot: str) -> None:
    words = arguments(Accel.TCG, throw_away=throw_away)
    assert any(word.endswith(f",share={share}") for word in words)
    assert any(word.endswith(f",snapshot={snapshot}") for word in words)


@pytest.mark.parametrize(("accel", "cpu"), [(Accel.TCG, "max,cx16=off"), (Accel.KVM, "host")])
def test_emulation_does_without_the_instruction_that_it_gets_wrong(accel: Accel, cpu: str) -> None:
    words = arguments(accel, throw_away=True)
    assert words[words.index("-cpu") + 1] == cpu
