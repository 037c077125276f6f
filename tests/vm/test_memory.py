# SPDX-License-Identifier: GPL-2.0-or-later
"""What is read from kernel memory of livepatches that are really there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from klpd.plain import to_plain
from tests.livepatches.table import ROWS, TARGET
from tests.vm.lab import Lab
from tests.vm.marks import extended, on_every_kernel

if TYPE_CHECKING:
    from tests.vm.host import Host

pytestmark = extended

HOLD = "/proc/klp_test_target/hold"


@pytest.fixture
def lab(bare_host: Host) -> Lab:
    return Lab(bare_host)


def expected(name: str, **differences: object) -> dict[str, Any]:
    """What the table says that a livepatch is, once its transition is over."""
    (row,) = (each for each in ROWS if each.name == name)
    at_rest = {
        "name": name,
        "enabled": True,
        "transition": False,
        "replace": row.replace,
        "forced": False,
        "coming": False,
    }
    return {**at_rest, "states": to_plain(row.states), "misnamed": False, **differences}


def insert(lab: Lab, name: str) -> None:
    lab.host.run(f"insmod {lab.livepatch(name)}", check=True)


def test_an_unpatched_kernel_has_none(lab: Lab) -> None:
    assert lab("patches") == []


@pytest.mark.parametrize("name", ["klp_cmdline_v4", "klp_add", "klp_stateless"])
def test_a_livepatch_is_read_with_its_states(lab: Lab, name: str) -> None:
    insert(lab, name)
    lab.settle()
    assert lab("patches") == [expected(name)]


def test_an_object_that_is_named_like_the_kernel_is_told_from_the_kernel(lab: Lab) -> None:
    for name in ("klp_misnamed", "klp_add"):
        insert(lab, name)
        lab.settle()
    assert lab("patches") == [expected("klp_misnamed", misnamed=True), expected("klp_add")]


@on_every_kernel
def test_livepatches_are_in_the_order_in_which_they_came(lab: Lab) -> None:
    names = ["klp_sticky", "klp_cmdline_sticky", "klp_add"]
    for name in names:
        insert(lab, name)
        lab.settle()
    # The second of them has replaced the first.
    assert [each["name"] for each in lab("patches")] == names[1:]


def test_a_disabled_livepatch_is_gone(lab: Lab) -> None:
    insert(lab, "klp_add")
    lab.settle()
    lab.take_out("klp_add")
    assert lab("patches") == []


@on_every_kernel
def test_a_running_transition_is_seen_with_its_tasks(lab: Lab) -> None:
    insert(lab, TARGET)
    lab.host.run(f"echo 1 > {HOLD}", check=True)
    insert(lab, "klp_stuck")
    lab.host.run("sleep 3")
    assert lab("patches") == [expected("klp_stuck", transition=True)]
    unpatched = [each["command"] for each in lab("tasks") if each["patch_state"] == 0]
    assert unpatched == ["klp_test_held"]
    lab.host.run(f"echo 0 > {HOLD}", check=True)
    lab.settle()
    assert lab("patches") == [expected("klp_stuck")]
    assert lab("tasks") == []
