# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard keeps what it works by: nobody switches ftrace off while the gate is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from klpd.messages import MessageId
from tests.vm.boot import Options
from tests.vm.lab import Lab
from tests.vm.livepatches import journal, set_policy
from tests.vm.marks import extended, on_every_kernel
from tests.vm.test_gate_trouble import guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vm.host import Host

READ: Final = "cat /proc/sys/kernel/ftrace_enabled"
SWITCH: Final = "ftrace_switched"


@pytest.fixture
def lab(bare_host: Host) -> Lab:
    lab = Lab(bare_host)
    lab("close")
    return lab


def is_on(lab: Lab) -> bool:
    return lab.host.run(READ, check=True).stdout == "1\n"


@on_every_kernel
def test_ftrace_stays_on_while_the_gate_is_closed_and_until_it_is_opened(lab: Lab) -> None:
    # Nobody is there but the kernel: each step is a process of its own, and ended.
    assert set(lab("switch", "0", "0\\n", " 0", "00", "-0", "0x0", "2", "1 0", "10")) == {"EPERM"}
    assert lab("switch", "1", "1\\n") == ["ok", "ok"]
    assert set(lab("switch_elsewhere").values()) == {"EPERM"}
    assert is_on(lab)
    event = lab("events")[0]
    assert (event["verdict"], event["allowed"], event["uid"], event["command"]) == ("forbidden", False, 0, "python3")
    assert event["pid"] > 0

    lab("let_ftrace_off", "allow")
    assert lab("switch", "0", "1") == ["ok", "ok"]
    lab("let_ftrace_off", "deny")
    lab("set_mode", "observe")
    assert lab("switch", "0", "1") == ["ok", "ok"]
    lab("set_mode", "off")
    assert lab("switch", "0") == ["ok"]
    assert not is_on(lab)
    lab("set_mode", "enforce")
    assert lab("status")["state"] == "ineffective"
    assert lab("switch", "0", "1") == ["EPERM", "ok"]
    assert lab("status")["state"] == "closed"


@on_every_kernel
def test_what_others_can_detach_is_told_of_and_attached_again(lab: Lab) -> None:
    before, mended, after = lab("detach_and_attach_again")
    assert [each["program"] for each in before["missing"]] == [SWITCH]
    assert "root may set kernel.ftrace_enabled to 0" in before["reason"]
    assert mended
    assert (after["state"], after["reason"], after["missing"]) == ("closed", "", [])
    assert lab("switch", "0") == ["EPERM"]

    assert {program for program, answer in lab("detach").items() if answer == "ok"} == {SWITCH}
    assert lab("switch", "0", "1") == ["ok", "ok"]
    assert lab("close")["missing"] == []
    assert lab("switch", "0") == ["EPERM"]


def test_klpd_tells_who_tried_and_at_once_when_the_kernel_does_not_call_the_guard(host: Host) -> None:
    restart(host, watchdog="1h")
    assert "not permitted" in host.run("sysctl --write kernel.ftrace_enabled=0").stderr
    await_entry(host, MessageId.SWITCH_VETOED, "")
    (veto,) = journal(host, MessageId.SWITCH_VETOED)
    assert (veto["KLPD_COMMAND"], veto["KLPD_UID"], veto["KLPD_SWITCH"]) == ("sysctl", "0", "kernel.ftrace_enabled")

    host.run("klpctl guard open && sysctl --write kernel.ftrace_enabled=0", check=True)
    closed = host.run("klpctl guard close")
    assert closed.returncode != 0
    assert "kernel.ftrace_enabled is 0" in closed.stderr
    await_entry(host, MessageId.SWITCH_ALLOWED, "let through, since the gate is open: sysctl")
    await_entry(host, MessageId.DEFENCE_CHANGED, "guard is down: ineffective.*kernel.ftrace_enabled is 0")
    assert {each["PRIORITY"] for each in journal(host, MessageId.SWITCH_ALLOWED)} == {"1"}
    assert journal(host, MessageId.DEFENCE_CHANGED)[-1]["PRIORITY"] == "1"

    host.run("sysctl --write kernel.ftrace_enabled=1", check=True)
    await_entry(host, MessageId.DEFENCE_CHANGED, "guard is up")
    assert guard(host)[0] == "up"

    set_policy(host, '[policy]\nftrace-off = "allow"\n')
    host.run("sysctl --write kernel.ftrace_enabled=0", check=True)
    await_entry(host, MessageId.SWITCH_ALLOWED, "let through, since the policy allows it: sysctl")
    await_entry(host, MessageId.DEFENCE_CHANGED, "guard is down: ineffective")


@extended
def test_klpd_attaches_again_what_others_have_detached(host: Host) -> None:
    restart(host, watchdog="9s")
    lab = Lab(host)
    lab("detach")
    await_entry(host, MessageId.DEFENCE_CHANGED, "guard is up")
    told = [
        each["MESSAGE"] for each in journal(host, MessageId.DEFENCE_CHANGED) if "guard is degraded" in each["MESSAGE"]
    ]
    assert "root may set kernel.ftrace_enabled to 0" in told[-1]
    assert lab("switch", "0") == ["EPERM"]
    # As systemd keeps it, too.
    host.run("rm -r /sys/fs/bpf/klpd && systemctl restart klpd", check=True)
    assert lab("switch", "0") == ["EPERM"]
    assert guard(host)[0] == "up"


@extended
def test_what_was_switched_off_before_there_was_a_guard_is_told_at_the_start_and_over_when_it_is_on(
    boot: Callable[[Options], Host],
) -> None:
    host = boot(Options(kernel_arguments=("sysctl.kernel.ftrace_enabled=0",)))
    restart(host, watchdog="1h")
    state, detail = guard(host)
    assert state == "down"
    assert "kernel.ftrace_enabled is 0" in detail
    alarms = [each["MESSAGE"] for each in journal(host, MessageId.DEFENCE_CHANGED) if each["PRIORITY"] == "1"]
    assert {each.partition(":")[0] for each in alarms} == {"guard is down"}
    host.run("sysctl --write kernel.ftrace_enabled=1", check=True)
    await_entry(host, MessageId.DEFENCE_CHANGED, "guard is up")


def restart(host: Host, watchdog: str) -> None:
    """Have a klpd that looks by itself three times in so long."""
    host.run("mkdir /run/systemd/system/klpd.service.d", check=True)
    host.write("/run/systemd/system/klpd.service.d/test.conf", f"[Service]\nWatchdogSec={watchdog}\n".encode())
    host.run("systemctl daemon-reload && systemctl restart klpd", check=True)


def await_entry(host: Host, kind: MessageId, text: str) -> None:
    """Wait for the last entry of a kind to say something."""
    last = f"journalctl --output cat --lines 1 MESSAGE_ID={kind}"
    host.run(f"until {last} | grep --quiet '{text}'; do sleep 0.1; done", check=True, timeout=15)
