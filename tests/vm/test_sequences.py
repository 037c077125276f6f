# SPDX-License-Identifier: GPL-2.0-or-later
"""Sequences on a real kernel, in every kind of trouble: each ends as planned, or in a state that is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from klpd.errors import ExitStatus
from tests.vm.livepatches import ALLOW_ALL, ALLOW_GAPS, installed, put_into_tree, put_livepatches, set_policy
from tests.vm.marks import extended

if TYPE_CHECKING:
    from tests.vm.host import Host

HOLD: Final = "echo 1 > /proc/klp_test_target/hold"
LET_GO: Final = "echo 0 > /proc/klp_test_target/hold"
MOVING: Final = "while ! grep -qs 1 /sys/kernel/livepatch/*/transition; do sleep 0.1; done"
FORCING: Final = (
    ALLOW_ALL
    + """
[[livepatch]]
match = { name = "klp_cmdline_*" }
timeout = "2s"
on-timeout = "force"
force = "allow"
"""
)
# Kills klpd when the job that is under way comes to the step of this rank.
KILLER: Final = """
import json, os, signal, subprocess, sys
rank, file = int(sys.argv[1]), "/var/lib/klpd/jobs"
pid = int(subprocess.check_output(["systemctl", "show", "--property=MainPID", "--value", "klpd"]))
print("ready", flush=True)
while True:
    try:
        (job,) = json.load(open(file))["jobs"]
    except ValueError:
        continue
    if len(job["report"]["steps"]) > rank and job["report"]["steps"][rank]["state"] == "running":
        os.kill(pid, signal.SIGKILL)
        break
"""


def status(host: Host) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(host.run("klpctl status --json", check=True).stdout)
    return told


def modules(host: Host) -> str:
    return host.run("cut --delimiter ' ' --fields 1 /proc/modules").stdout


@pytest.fixture
def held(host: Host) -> Host:
    """A kernel thread sleeps in the function that klp_stuck and klp_cmdline_stuck patch."""
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_test_target", "klp_stuck", "klp_cmdline_stuck", "klp_cmdline_v1", "klp_add")
    host.run(f"insmod klp_test_target.ko && {HOLD}", check=True)
    return host


@extended
def test_klpd_may_be_killed_at_each_step_of_a_plan(host: Host) -> None:
    set_policy(host, ALLOW_GAPS)
    put_livepatches(host, "klp_cmdline_v1", "klp_cmdline_v2")
    host.write("/root/killer.py", KILLER.encode())
    host.run("klpctl apply klp_cmdline_v1.ko", check=True)
    for rank, action in enumerate(("disable", "remove", "load")):
        host.run("klpctl apply klp_cmdline_v2.ko", check=True)
        killer = host.spawn(f"python3 -I killer.py {rank}")
        killer.wait_for_output("ready", 30)
        killed = host.run("klpctl revert --yes")
        assert killed.returncode == ExitStatus.NO_DAEMON, action
        assert killer.wait(30) == 0
        host.run("until klpctl status; do sleep 0.1; done", check=True)
        number = max(each["id"] for each in status(host)["jobs"])
        job = json.loads(host.run(f"klpctl wait {number} --json", check=True).stdout)
        assert [each["verdict"]["action"] for each in job["steps"]] == ["disable", "remove", "load"]
        assert {each["state"] for each in job["steps"]} == {"done"}
        assert (installed(host), modules(host).split()[0]) == (["klp_cmdline_v1"], "klp_cmdline_v1")
        assert "klp_cmdline_v2" not in modules(host)


def test_a_revert_takes_back_the_transition_that_another_waits_for(held: Host) -> None:
    apply = held.spawn("exec klpctl apply klp_stuck.ko")
    held.run(MOVING, check=True)
    reverted = held.run("klpctl revert --yes", check=True, timeout=60)
    assert "reversing the transition of klp_stuck" in reverted.stdout
    assert apply.wait(60) == ExitStatus.FAILED
    assert b"the transition of klp_stuck was reversed by somebody else" in apply.stderr
    assert installed(held) == []
    assert "klp_stuck" not in modules(held)
    assert [each["state"] for each in status(held)["jobs"]] == ["failed", "done"]


def test_one_who_writes_to_sysfs_may_take_it_back_too_and_klpd_tells(held: Host) -> None:
    apply = held.spawn("exec klpctl apply klp_stuck.ko")
    # Until klpd has looked at what has just begun, the guard lets nobody write.
    held.run(f"{MOVING}; until echo 0 > /sys/kernel/livepatch/klp_stuck/enabled; do sleep 0.2; done", check=True)
    assert apply.wait(60) == ExitStatus.FAILED
    assert b"reversed by somebody else" in apply.stderr
    assert installed(held) == []


@extended
def test_a_transition_is_forced_where_a_rule_allows_it_and_that_is_marked_for_good(held: Host) -> None:
    held.run(f"{LET_GO}; klpctl apply klp_cmdline_v1.ko", check=True)
    held.run(HOLD, check=True)
    refused = held.run(
        "klpctl apply klp_stuck.ko & " + MOVING + "; klpctl force klp_stuck --yes; echo $?; " + LET_GO + "; wait"
    )
    assert str(int(ExitStatus.VETOED)) in refused.stdout.split()
    held.run("klpctl disable klp_stuck", check=True)
    held.run(HOLD, check=True)
    set_policy(held, FORCING)
    forced = held.run("klpctl apply klp_cmdline_stuck.ko", check=True, timeout=60)
    assert "took longer than 2 s and was forced; it waited for: klp_test_held[" in forced.stdout
    for _ in range(2):
        told = status(held)
        assert installed(held) == ["klp_cmdline_stuck"]
        assert [(each["name"], each["removable"]) for each in told["stack"]["leftovers"]] == [("klp_cmdline_v1", False)]
        assert "kept until the next boot" in held.run("klpctl status").stdout
        held.run("systemctl restart klpd", check=True)
    kept = held.run("klpctl remove klp_cmdline_v1")
    assert kept.returncode == ExitStatus.VETOED
    assert "forced" in kept.stdout + kept.stderr


def test_a_transition_is_forced_by_hand_and_the_job_that_waits_for_it_goes_on(held: Host) -> None:
    set_policy(held, ALLOW_ALL + '[transition]\nforce = "allow"\n')
    apply = held.spawn("exec klpctl apply klp_stuck.ko")
    held.run(MOVING, check=True)
    for answer, status_then, transition in ((b"n\r", ExitStatus.FAILED, "1\n"), (b"y\r", ExitStatus.OK, "0\n")):
        force = held.spawn("exec klpctl force", terminal=(24, 100))
        force.wait_for_output("Force it? [y/N]", 60)
        force.write(answer, 30)
        assert force.wait(60) == status_then
        assert held.run("cat /sys/kernel/livepatch/klp_stuck/transition", check=True).stdout == transition
    assert apply.wait(60) == 0
    assert installed(held) == ["klp_stuck"]
    assert [each["state"] for each in status(held)["jobs"]] == ["done", "done"]


def test_what_comes_in_the_midst_of_a_transition_is_refused_or_has_to_wait(held: Host) -> None:
    put_into_tree(held, "klp_add")
    apply = held.spawn("exec klpctl apply klp_stuck.ko")
    held.run(MOVING, check=True)
    waiting = held.spawn("exec klpctl apply klp_add.ko")
    held.run("until klpctl jobs --json | grep -q '\"waiting\"'; do sleep 0.2; done", check=True)
    refused = held.run("insmod /lib/modules/$(uname -r)/updates/klp_add.ko")
    assert refused.returncode != 0
    assert "transition of klp_stuck" in held.run("klpctl log -n 5").stdout
    # A job does not need whoever asked for it.
    held.run("pkill --signal KILL --full 'klpctl apply klp_stuck.ko'")
    apply.wait(30)
    held.run(LET_GO, check=True)
    assert waiting.wait(60) == 0
    assert installed(held) == ["klp_add", "klp_stuck"]


def test_a_livepatch_that_fails_leaves_nothing_and_the_kernels_own_reason_is_told(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_fails", "klp_cmdline_v1")
    failed = host.run("klpctl apply klp_fails.ko")
    assert failed.returncode == ExitStatus.FAILED
    assert "No such device" in failed.stderr
    assert "pre-patch callback failed for object 'vmlinux'" in failed.stderr
    assert installed(host) == []
    assert "klp_fails" not in modules(host)
    host.run("klpctl apply klp_cmdline_v1.ko", check=True)
    again = host.run("klpctl apply klp_cmdline_v1.ko", check=True)
    assert "nothing to do" in again.stdout


def test_the_module_that_a_livepatch_patches_may_come_and_go(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_test_target", "klp_target")
    host.run("klpctl apply klp_target.ko", check=True)

    def patched() -> list[Any]:
        (livepatch,) = status(host)["stack"]["livepatches"]
        return [each.get("patched") for each in livepatch["objects"]]

    assert patched() == [False]
    for _ in range(2):
        host.run("insmod klp_test_target.ko", check=True)
        assert host.run("cat /proc/klp_test_target/show").stdout == "livepatch: klp_target\n"
        assert patched() == [True]
        host.run("rmmod klp_test_target", check=True)
        assert patched() == [False]
    host.run("insmod klp_test_target.ko && klpctl disable klp_target && rmmod klp_test_target", check=True)
    assert installed(host) == []


def test_the_way_back_needs_no_file_and_a_file_is_told_by_its_bytes(host: Host) -> None:
    set_policy(host, ALLOW_GAPS)
    put_livepatches(host, "klp_cmdline_v1", "klp_cmdline_v2")
    host.run("(cat klp_cmdline_v1.ko; echo) > other.ko", check=True)
    host.run("klpctl apply klp_cmdline_v1.ko && klpctl apply klp_cmdline_v2.ko && rm klp_cmdline_*.ko", check=True)
    host.run("klpctl revert --yes", check=True)
    assert installed(host) == ["klp_cmdline_v1"]
    refused = host.run("klpctl apply other.ko")
    assert refused.returncode == ExitStatus.VETOED
    assert "a livepatch named klp_cmdline_v1 is installed already" in refused.stdout + refused.stderr
    host.run("klpctl disable klp_cmdline_v1 && klpctl apply other.ko", check=True)
    assert installed(host) == ["klp_cmdline_v1"]


def test_klpd_does_not_wake_up_while_nothing_happens(host: Host) -> None:
    unwatched = "/run/systemd/system/klpd.service.d"
    host.run(f"mkdir {unwatched} && printf '[Service]\\nWatchdogSec=0\\n' > {unwatched}/test.conf", check=True)
    host.run("systemctl daemon-reload && systemctl restart klpd", check=True)
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_add")
    host.run("klpctl apply klp_add.ko", check=True)
    # What others do may wake it: a client that leaves the bus. What it does of itself, it does in each of these.
    windows = """
    cd /proc/$(systemctl show -P MainPID klpd)/task
    for window in 1 2 3 4 5; do
        sleep 4; before=$(grep ^voluntary */status); sleep 8; after=$(grep ^voluntary */status)
        [ "$before" = "$after" ] && exit
        echo "$before"; echo "$after"
    done
    exit 1"""
    quiet = host.run(windows, timeout=120)
    assert quiet.returncode == 0, quiet.stdout
