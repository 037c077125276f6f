# SPDX-License-Identifier: GPL-2.0-or-later
"""A write to `enabled` reverses a transition, or disables what is in force: klpd's own does not what it was not for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.vm.lab import Lab
from tests.vm.livepatches import ALLOW_ALL, installed, put_into_tree, put_livepatches, set_policy
from tests.vm.marks import extended, on_every_kernel

if TYPE_CHECKING:
    from tests.vm.host import Host

STUCK: Final = "klp_stuck"
STAYS_UNLESS_REVERSED: Final = ALLOW_ALL + '[[state]]\nid = 0x3002\nsticky = true\nreverse = "allow"\n'
HOLD: Final = "echo 1 > /proc/klp_test_target/hold"
LET_GO: Final = "echo 0 > /proc/klp_test_target/hold"
FOLDER: Final = f"/sys/kernel/livepatch/{STUCK}"
MINUTE: Final = 60

ROUND: Final = f"""
{HOLD}
insmod /lib/modules/$(uname -r)/updates/{STUCK}.ko
until grep -qs 1 {FOLDER}/transition; do sleep 0.05; done
dmesg --clear
{LET_GO}
sleep $1
job=$(busctl call org.klpd1 /org/klpd1 org.klpd1.Manager Revert s "" | cut -d'"' -f2)
while busctl get-property org.klpd1 $job org.klpd1.Job State | grep -qE 'waiting|running|reversing|authorizing'; do
  sleep 0.1
done
while grep -qs 1 {FOLDER}/transition; do sleep 0.1; done
"""


def over_before_it_was_reversed(messages: str) -> bool:
    """Whether the kernel has begun to unpatch it when it had been patched."""
    complete = messages.find(f"'{STUCK}': patching complete")
    return complete >= 0 and f"'{STUCK}': starting unpatching transition" in messages[complete:]


MANY: Final = pytest.param(tuple(each / 10 for each in range(12)), marks=extended, id="many")


@pytest.mark.parametrize("delays", [pytest.param((0.0, 0.3, 0.6), id="few"), MANY])
def test_a_reversal_that_comes_when_the_transition_has_ended_disables_nothing(
    host: Host, delays: tuple[float, ...]
) -> None:
    put_livepatches(host, "klp_test_target")
    put_into_tree(host, STUCK)
    host.run("insmod klp_test_target.ko", check=True)
    for delay in delays:
        set_policy(host, STAYS_UNLESS_REVERSED)
        host.run(["sh", "-c", ROUND, "round", str(delay)], check=True)
        assert not over_before_it_was_reversed(host.run("dmesg").stdout)
        if STUCK in installed(host):
            set_policy(host, ALLOW_ALL)
            host.run(f"klpctl disable {STUCK}", check=True)
        host.run(f"while [ -e /sys/module/{STUCK} ]; do rmmod {STUCK}; sleep 0.2; done", check=True)


@on_every_kernel
def test_klpds_own_write_waits_for_a_moment_far_from_the_kernels_next_try(bare_host: Host) -> None:
    lab = Lab(bare_host)
    assert lab("close")["state"] == "closed"
    target, stuck = lab.livepatch("klp_test_target"), lab.livepatch(STUCK)
    bare_host.run(f"insmod {target} && {HOLD}", check=True)
    lab("approve", stuck, MINUTE)
    assert lab.load("file", stuck) == "ok"
    # 0 forces nothing, so the transition goes on.
    assert lab("writes_around_a_try", STUCK) == ["ok", "EAGAIN"]
    bare_host.run(LET_GO, check=True)
    lab.settle()
    assert lab("write_as_judged", STUCK, "force", 1) == "ESTALE"
