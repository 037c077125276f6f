# SPDX-License-Identifier: GPL-2.0-or-later
"""Transitions that do not end by themselves are taken back, and klpd itself keeps none from ending."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

from klpd.errors import ExitStatus
from tests.vm.livepatches import ALLOW_ALL, installed, put_into_tree, put_livepatches, set_policy, wait_settled

if TYPE_CHECKING:
    from tests.vm.host import Host

IMPATIENT = ALLOW_ALL + '\n[transition]\ntimeout = "2s"\n'
HOLD = "echo 1 > /proc/klp_test_target/hold"
LET_GO = "echo 0 > /proc/klp_test_target/hold"


def held(host: Host, policy: str) -> None:
    """A kernel thread sleeps in the function that klp_stuck patches."""
    set_policy(host, policy)
    put_livepatches(host, "klp_test_target", "klp_stuck")
    host.run(f"insmod klp_test_target.ko && {HOLD}", check=True)


def test_a_transition_that_takes_too_long_is_reversed_and_the_straggler_named(host: Host) -> None:
    held(host, IMPATIENT)
    done = host.run("klpctl apply klp_stuck.ko", timeout=100)
    assert done.returncode == ExitStatus.FAILED
    assert "klp_test_held" in done.stdout + done.stderr
    assert "reversed" in done.stdout + done.stderr
    assert installed(host) == []
    assert "klp_stuck" not in host.run("cat /proc/modules").stdout


def test_a_straggler_is_told_with_its_stack_and_the_function_that_holds_it(host: Host) -> None:
    held(host, ALLOW_ALL)
    apply = host.spawn("exec klpctl apply klp_stuck.ko")
    host.run("while ! grep -qs 1 /sys/kernel/livepatch/klp_stuck/transition; do sleep 0.1; done; sleep 3", check=True)
    (job,) = json.loads(host.run("klpctl status --json", check=True).stdout)["jobs"]
    (straggler,) = job["stragglers"]
    assert (straggler["command"], straggler["run_state"]) == ("klp_test_held", "S")
    assert straggler["function"] == straggler["stack"][0] == "klp_test_wait [klp_test_target]"
    assert straggler["wchan"] == "klp_test_wait"
    assert float(host.run("date +%s.%N").stdout) - straggler["since"] > 2
    host.run(LET_GO, check=True)
    assert apply.wait(60) == 0


def test_ctrl_c_reverses_it_too_and_the_next_one_goes_through(host: Host) -> None:
    held(host, ALLOW_ALL)
    apply = host.spawn("exec klpctl apply klp_stuck.ko")
    host.run("while ! grep -qs 1 /sys/kernel/livepatch/klp_stuck/transition; do sleep 0.1; done", check=True)
    apply.signal(signal.SIGINT)
    assert apply.wait(100) != 0
    assert b"reversed" in apply.stdout + apply.stderr
    assert installed(host) == []
    host.run(f"{LET_GO}; klpctl apply klp_stuck.ko", check=True, timeout=100)


def test_a_disable_that_takes_too_long_is_reversed_and_the_livepatch_stays(host: Host) -> None:
    held(host, IMPATIENT)
    host.run(f"{LET_GO}; klpctl apply klp_stuck.ko && {HOLD}", check=True, timeout=100)
    done = host.run("klpctl disable klp_stuck", timeout=100)
    assert done.returncode == ExitStatus.FAILED
    assert installed(host) == ["klp_stuck"]
    assert host.run("cat /sys/kernel/livepatch/klp_stuck/enabled").stdout.strip() == "1"


def test_an_older_transition_ends_with_the_guard_in_place(host: Host) -> None:
    held(host, ALLOW_ALL)
    # The worker that tries to end the transition runs on both processors in turn, the guard's programs on its stack.
    apply = host.spawn("exec klpctl apply klp_stuck.ko")
    host.run("while ! grep -qs 1 /sys/kernel/livepatch/klp_stuck/transition; do sleep 0.1; done", check=True)
    host.run(f"sleep 5; {LET_GO}", check=True)
    assert apply.wait(60) == 0
    assert installed(host) == ["klp_stuck"]


def test_a_state_that_nobody_restores_is_not_taken_back(host: Host) -> None:
    held(host, ALLOW_ALL)
    put_livepatches(host, "klp_cmdline_v1")
    put_into_tree(host, "klp_cmdline_stuck")
    host.run("klpctl apply klp_cmdline_v1.ko", check=True)
    host.run("insmod /lib/modules/$(uname -r)/updates/klp_cmdline_stuck.ko", check=True)
    refused = host.run("klpctl revert --yes")
    assert refused.returncode == ExitStatus.VETOED
    assert "post_unpatch" in refused.stdout + refused.stderr
    written = host.run("echo 0 > /sys/kernel/livepatch/klp_cmdline_stuck/enabled")
    assert "Operation not permitted" in written.stderr
    host.run(LET_GO, check=True)
    wait_settled(host)
    assert installed(host) == ["klp_cmdline_stuck"]
