# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs do what they promise: a way out of every transition that does not end, and an answer at once."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any, Final

import pytest

from klpd.errors import ExitStatus
from tests.vm.livepatches import ALLOW_ALL, installed, put_livepatches, set_policy
from tests.vm.marks import extended

if TYPE_CHECKING:
    from tests.vm.channel import RemoteCommand
    from tests.vm.host import Host

HOLD: Final = "echo 1 > /proc/klp_test_target/hold"
LET_GO: Final = "echo 0 > /proc/klp_test_target/hold"
MOVING: Final = "while ! grep -qs 1 /sys/kernel/livepatch/*/transition; do sleep 0.1; done"
MANAGER: Final = "org.klpd1 /org/klpd1 org.klpd1.Manager"
MAY_FORCE: Final = ALLOW_ALL + '[transition]\nforce = "allow"\n'
FORCES: Final = MAY_FORCE + 'timeout = "2s"\non-timeout = "force"\n'
ANSWERS: Final = "until klpctl status > /dev/null 2>&1; do sleep 0.2; done"


def jobs(host: Host) -> dict[int, dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(host.run("klpctl jobs --json", check=True).stdout)
    return {each["id"]: each for each in found}


def until(host: Host, number: int, *states: str) -> dict[str, Any]:
    """The job, once it is in one of these states."""
    while (job := jobs(host).get(number)) is None or job["state"] not in states:
        host.run("sleep 0.3")
    return job


def blockers(host: Host) -> str:
    return " ".join(host.run("klpctl blockers", check=True).stdout.split())


@pytest.fixture
def held(host: Host) -> Host:
    """A kernel thread sleeps in the function that klp_stuck patches."""
    set_policy(host, MAY_FORCE)
    put_livepatches(host, "klp_test_target", "klp_stuck", "klp_cmdline_v1", "klp_add")
    host.run(f"insmod klp_test_target.ko && {HOLD}", check=True)
    return host


def stuck_on_the_way_back(host: Host) -> RemoteCommand:
    """Job 1, which loads klp_stuck, was canceled, and waits for a second thread, in the new function, to go back."""
    apply = host.spawn("exec klpctl apply klp_stuck.ko")
    apply.wait_for_output("klp_test_held", 60)
    host.run(HOLD, check=True)
    apply.signal(signal.SIGINT)
    until(host, 1, "reversing")
    # It goes back, and just the second thread is in its way.
    host.run("grep -q 0 /sys/kernel/livepatch/klp_stuck/enabled", check=True)
    host.run("until test $(klpctl blockers --json | grep -c klp_test_held) = 1; do sleep 0.3; done", check=True)
    return apply


@extended
def test_a_way_back_that_is_stuck_is_told_of_and_can_be_turned_round_or_forced(held: Host) -> None:
    apply = stuck_on_the_way_back(held)
    told = blockers(held)
    assert "klp_stuck: unpatching, 1 of " in told
    assert "klpd (job 1) waits for it, for more than its 5min too: it goes back already" in told
    assert "klpctl revert turns it round again; klpctl force klp_stuck forces it" in told
    again = held.run("busctl call org.klpd1 /org/klpd1/job/1 org.klpd1.Job Cancel")
    assert "job 1 reverses its transition already" in again.stderr

    revert = held.spawn("exec klpctl revert --yes")
    assert apply.wait(60) == ExitStatus.FAILED
    assert b"canceled: the transition of klp_stuck was reversed; then somebody else reversed it" in apply.stderr
    assert until(held, 2, "running")["stragglers"]
    assert held.run("cat /sys/kernel/livepatch/klp_stuck/enabled").stdout == "1\n"
    assert "klpd (job 2) waits for it" in blockers(held)

    forced = held.run("klpctl force --yes", check=True, timeout=60)
    assert "force the transition of klp_stuck: done" in forced.stdout
    assert revert.wait(60) == 0
    assert installed(held) == ["klp_stuck"]
    assert [each["state"] for each in jobs(held).values()] == ["canceled", "done", "done"]
    assert {step["state"] for each in jobs(held).values() for step in each["steps"]} == {"done", "failed"}


@extended
def test_force_helps_the_way_back_too(held: Host) -> None:
    apply = stuck_on_the_way_back(held)
    held.run("klpctl force --yes", check=True, timeout=60)
    assert apply.wait(60) == ExitStatus.FAILED
    assert installed(held) == []
    assert [each["state"] for each in jobs(held).values()] == ["canceled", "done"]


@extended
@pytest.mark.parametrize(
    "restart",
    [
        "systemctl restart klpd",
        *(pytest.param(each, marks=extended) for each in ("", "systemctl kill --signal KILL klpd")),
    ],
)
def test_a_way_back_that_takes_too_long_is_forced_after_a_restart_as_well(held: Host, restart: str) -> None:
    apply = stuck_on_the_way_back(held)
    if restart:
        held.run(f"{restart}; {ANSWERS}", check=True)
        assert apply.wait(60) == ExitStatus.NO_DAEMON
        assert jobs(held)[1]["state"] == "reversing"
        assert "klpd (job 1) waits for it" in blockers(held)
    set_policy(held, FORCES)
    job = until(held, 1, "canceled")
    assert job["error"] == "org.klpd1.Error.Canceled"
    assert job["message"] == "canceled: the transition of klp_stuck was reversed"
    assert [step["state"] for step in job["steps"]] == ["failed"]
    assert installed(held) == []


@extended
def test_a_way_back_that_a_restart_cut_in_two_ends_with_the_reason_that_it_had(held: Host) -> None:
    stuck_on_the_way_back(held)
    held.run(f"systemctl restart klpd; {ANSWERS}", check=True)
    revert = held.spawn("exec klpctl revert --yes")
    until(held, 2, "running")
    held.run(LET_GO, check=True)
    assert revert.wait(60) == 0
    job = until(held, 1, "canceled")
    assert job["error"] == "org.klpd1.Error.Canceled"
    assert [step["state"] for step in job["steps"]] == ["failed"]
    assert installed(held) == ["klp_stuck"]


def test_what_was_vetoed_when_it_took_too_long_is_done_once_the_policy_allows_it(held: Host) -> None:
    hurried = ALLOW_ALL + '[transition]\ntimeout = "2s"\n'
    set_policy(held, hurried + "[[state]]\nid = 0x3002\nsticky = true\n")
    apply = held.spawn("exec klpctl apply klp_stuck.ko")
    apply.wait_for_output("is refused", 60)
    told = blockers(held)
    assert "its 2s are over, and klpd (job 1) reverses it as soon as the rules let it" in told
    assert "50-test.toml:" in told
    set_policy(held, hurried)
    assert apply.wait(60) == ExitStatus.FAILED
    assert b"took longer than 2 s and was reversed" in apply.stderr
    assert installed(held) == []


@extended
def test_what_waits_is_dropped_at_once_and_keeps_nobody_from_ending_what_it_waits_for(held: Host) -> None:
    apply = held.spawn("exec klpctl apply klp_stuck.ko")
    held.run(MOVING, check=True)
    waiting = held.spawn("exec klpctl apply klp_add.ko > told")
    until(held, 2, "waiting")
    held.run("until grep -q 'waiting for job 1: apply klp_stuck' told; do sleep 0.2; done", check=True, timeout=30)
    waiting.signal(signal.SIGINT)
    assert waiting.wait(30) == ExitStatus.FAILED
    assert jobs(held)[2]["state"] == "canceled"

    # polkit's answer, which does not come, is not waited for.
    held.run("busctl call org.freedesktop.PolicyKit1 / org.freedesktop.DBus.Peer Ping; pkill --signal STOP polkitd")
    asking = f"busctl call {MANAGER} Disable sa{{sv}} klp_add 0"
    assert "/org/klpd1/job/3" in held.run(asking, user="alice", check=True).stdout
    assert jobs(held)[3]["state"] == "authorizing"
    held.run("busctl call org.klpd1 /org/klpd1/job/3 org.klpd1.Job Cancel", user="alice", check=True)
    assert jobs(held)[3]["state"] == "canceled"
    held.run("pkill --signal CONT polkitd", check=True)

    call = f"busctl --quiet call {MANAGER} Remove sa{{sv}} klp_add 0"
    held.run(f"for i in $(seq 63); do {call}; done", check=True, timeout=240)
    assert "64 jobs of yours are not over" in held.run(call).stderr
    held.run("klpctl revert --yes", check=True, timeout=60)
    assert apply.wait(60) == ExitStatus.FAILED
    assert installed(held) == []


@extended
@pytest.mark.parametrize("end", ["systemctl restart dbus", "pkill --signal KILL --exact dbus-daemon"])
def test_klpd_comes_back_when_the_bus_does_and_goes_on(held: Host, end: str) -> None:
    apply = held.spawn("exec klpctl apply klp_stuck.ko")
    apply.wait_for_output("klp_test_held", 60)
    held.run(f"{end}; sleep 1; {ANSWERS}", check=True, timeout=60)
    assert apply.wait(30) == ExitStatus.NO_DAEMON
    assert held.run("systemctl is-active klpd").stdout == "active\n"
    assert "klpd is on the system bus again" in held.run("journalctl --unit klpd").stdout
    assert held.run("klpctl guard status").returncode == 0
    job = until(held, 1, "running")
    assert job["stragglers"]
    assert "klpd (job 1) reverses it" in blockers(held)
    set_policy(held, ALLOW_ALL + '[transition]\ntimeout = "2s"\n')
    assert until(held, 1, "failed")["error"] == "org.klpd1.Error.TimedOut"
    assert installed(held) == []
    refused = held.run(f"{LET_GO}; insmod klp_add.ko")
    assert refused.returncode != 0  # it is not in a watched directory, and so nobody has approved it
    held.run("klpctl apply klp_add.ko", check=True)


@extended
def test_a_disable_by_mistake_is_taken_back_and_what_was_before_it_is_next(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_add", "klp_cmdline_v1")
    host.run("klpctl apply klp_add.ko && klpctl disable klp_add", check=True)
    assert installed(host) == []
    assert "revert to klp_add: done" in host.run("klpctl revert --yes", check=True).stdout
    assert installed(host) == ["klp_add"]
    host.run("klpctl revert --to original --yes && klpctl revert --yes", check=True)
    assert installed(host) == ["klp_add"]
    host.run("klpctl revert --yes", check=True)
    assert installed(host) == []
    nothing = host.run("klpctl revert --yes")
    assert nothing.returncode == ExitStatus.USAGE
    assert "there is no change to undo" in nothing.stderr
    host.run("systemctl restart klpd; klpctl apply klp_add.ko; klpctl revert --yes", check=True)
    assert installed(host) == []


def test_ctrl_c_ends_klpctl_at_any_time_without_a_word(host: Host) -> None:
    reading = host.spawn("exec klpctl apply -")
    host.run("until grep -q '^0 0x0' /proc/$(pgrep --full '[k]lpctl apply -')/syscall; do sleep 0.2; done", check=True)
    reading.signal(signal.SIGINT)
    assert reading.wait(30) == -signal.SIGINT
    importing = (
        "import os, runpy, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_more):\n"
        "        if name == 'klpd.ctl.cli': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "sys.argv = ['klpctl', 'jobs']\n"
        "runpy.run_path('/usr/bin/klpctl', run_name='__main__')\n"
    )
    host.write("/root/importing.py", importing.encode())
    done = host.run("python3 -I importing.py; exit $?")
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, "", "")
