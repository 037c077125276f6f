# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs outlive klpd: one that starts anew takes up what another left unfinished."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.vm.livepatches import ALLOW_ALL, installed, put_livepatches, set_policy, wait_settled
from tests.vm.marks import extended

if TYPE_CHECKING:
    from tests.vm.host import Host

pytestmark = extended

HOLD = "echo 1 > /proc/klp_test_target/hold"
LET_GO = "echo 0 > /proc/klp_test_target/hold"
MOVING = "while ! grep -qs 1 /sys/kernel/livepatch/*/transition; do sleep 0.1; done"
CRASH = "systemctl kill --signal KILL klpd; while ! systemctl is-active --quiet klpd; do sleep 0.1; done"


def jobs(host: Host) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(host.run("klpctl status --json", check=True).stdout)["jobs"]
    return found


def ended(host: Host) -> dict[str, Any]:
    """The one job, once it is over."""
    while True:
        (job,) = jobs(host)
        if job["state"] in ("done", "failed", "canceled"):
            return job
        host.run("sleep 0.2")


@pytest.fixture
def held(host: Host) -> Host:
    """A kernel thread sleeps in the function that klp_stuck patches."""
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_test_target", "klp_stuck", "klp_cmdline_stuck", "klp_cmdline_v1", "klp_add")
    host.run(f"insmod klp_test_target.ko && {HOLD}", check=True)
    return host


@pytest.mark.parametrize("restart", [CRASH, "systemctl restart klpd"], ids=["killed", "restarted"])
def test_a_load_goes_on_where_it_was(held: Host, restart: str) -> None:
    held.run(f"{LET_GO}; klpctl apply klp_cmdline_v1.ko && {HOLD}", check=True)
    apply = held.spawn("klpctl apply klp_cmdline_stuck.ko")
    held.run(f"{MOVING}; {restart}", check=True)
    apply.wait(60)
    (job,) = jobs(held)
    assert (job["kind"], job["state"]) == ("apply", "running")
    assert [step["state"] for step in job["steps"]] == ["running", "pending"]
    held.run(LET_GO, check=True)
    assert ended(held)["state"] == "done"
    assert installed(held) == ["klp_cmdline_stuck"]
    assert "klp_cmdline_v1" not in held.run("cat /proc/modules").stdout


def test_a_reversal_that_was_begun_is_ended_and_told(held: Host) -> None:
    set_policy(held, ALLOW_ALL + '[transition]\ntimeout = "3s"\n')
    apply = held.spawn("klpctl apply klp_stuck.ko")
    # The reversal is over within a second: no time for other programs, if klpd is to be stopped before it can see that.
    begun = "while read -r enabled < klp_stuck/enabled && test $enabled = 1; do :; done"
    held.run(f"{MOVING}; cd /sys/kernel/livepatch; {begun}; {CRASH}")
    apply.wait(60)
    job = ended(held)
    assert job["state"] == "failed"
    assert "reversed the transition of klp_stuck" in job["message"] or "was reversed" in job["message"]
    assert installed(held) == []
    assert "klp_stuck" not in held.run("cat /proc/modules").stdout


def test_a_job_that_waited_for_its_turn_is_told_to_have_ended(held: Host) -> None:
    first = held.spawn("klpctl apply klp_stuck.ko")
    held.run(MOVING, check=True)
    second = held.spawn("klpctl apply klp_add.ko")
    held.run("while ! klpctl status --json | grep -q '\"waiting\"'; do sleep 0.1; done", check=True)
    held.run(CRASH, check=True)
    first.wait(60)
    second.wait(60)
    told = {each["goal"]: each for each in jobs(held)}
    assert told["apply klp_stuck"]["state"] == "running"
    held.run(LET_GO, check=True)
    wait_settled(held)
    held.run('while klpctl status --json | grep -q \'"state": "running"\'; do sleep 0.1; done', check=True)
    (waited,) = (each for each in jobs(held) if "klp_add" in each["goal"])
    assert waited["state"] == "failed"
    assert "ask for it again" in waited["message"]
    assert installed(held) == ["klp_stuck"]


def test_ids_go_on_where_they_were(held: Host) -> None:
    held.run(f"{LET_GO}; klpctl apply klp_add.ko", check=True)
    (first,) = jobs(held)
    held.run(f"{CRASH}; klpctl disable klp_add", check=True)
    (second,) = jobs(held)
    assert second["id"] == first["id"] + 1
