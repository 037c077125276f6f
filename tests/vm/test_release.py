# SPDX-License-Identifier: GPL-2.0-or-later
"""Nobody waits for a klpd that does not answer, whatever keeps it from that; and no livepatch comes in meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from klpd.messages import MessageId
from tests.vm.host import TIMEOUT
from tests.vm.livepatches import ALLOW_ALL, installed, journal, put_into_tree, set_policy
from tests.vm.marks import extended
from tests.vm.test_hold import (
    DUMMY,
    PATIENT,
    REFUSED,
    TREE,
    klpd,
    signal_klpd,
    soon,
    spawn_held,
    tree,
    wait_for_another,
)
from tests.vm.test_nobody_waits import SLACK, timed

if TYPE_CHECKING:
    from tests.vm.host import Host

OPENERS: Final = Path(__file__).parent / "in_guest" / "openers.py"
HOLD_TIMEOUT: Final = 2.0
RELEASE: Final = "$(systemctl show --property MainPID --value klpd-release)"


@pytest.fixture
def files(host: Host) -> list[str]:
    """Ordinary modules of which klpd knows nothing yet, where a livepatch lies that is denied."""
    host.put(OPENERS, "/root/openers.py")
    set_policy(host, f'[policy]\nhold-timeout = "{HOLD_TIMEOUT:g}s"\n')
    put_into_tree(host, "klp_add")
    host.run(f"for i in $(seq 4); do cp {DUMMY} {TREE}/$i.ko; done", check=True)
    return [f"{tree(host)}/{number}.ko" for number in range(1, 5)]


def check_nobody_waits(host: Host, files: list[str]) -> None:
    """The first waits for the timeout at most, nobody after him, and the gate is closed."""
    first, *others = timed(host, *files)
    assert first <= HOLD_TIMEOUT + 1 + SLACK
    assert sum(others) <= 2 * SLACK
    host.run(f"insmod {files[0]} && rmmod dummy", check=True, timeout=20)
    assert REFUSED in host.run(f"insmod {TREE}/klp_add.ko", timeout=20).stderr
    assert installed(host) == []


def test_a_klpd_that_is_stopped_keeps_nobody_waiting_beyond_the_holds_time(host: Host, files: list[str]) -> None:
    before = klpd(host)
    signal_klpd(host, "STOP")
    check_nobody_waits(host, files)
    signal_klpd(host, "CONT")
    host.run(f"cat {TREE}/klp_add.ko > /dev/null", check=True)
    set_policy(host, ALLOW_ALL)
    host.run(f"insmod {TREE}/klp_add.ko", check=True)
    assert klpd(host) == before
    assert [each["KLPD_LIVEPATCH"] for each in journal(host, MessageId.LOAD_VETOED)] == ["klp_add"]
    said = host.run("journalctl --sync; journalctl --unit klpd-release --output cat", check=True).stdout
    assert "klpd does not answer in time" in said
    assert "klpd answers again" in said


@pytest.mark.parametrize(
    "shortage", [pytest.param("nofile=8:8"), pytest.param("as=1:1", marks=extended)], ids=["descriptors", "memory"]
)
def test_a_klpd_that_has_nothing_left_keeps_nobody_from_a_module(host: Host, files: list[str], shortage: str) -> None:
    host.run(f"prlimit --pid {klpd(host)} --{shortage}", check=True)
    check_nobody_waits(host, files)
    host.run("systemctl restart klpd", check=True)
    set_policy(host, ALLOW_ALL)
    host.run(f"insmod {TREE}/klp_add.ko", check=True)


def test_one_that_lets_nobody_go_is_replaced_and_holds_nobody_beyond_klpds_end(host: Host, files: list[str]) -> None:
    set_policy(host, PATIENT)
    before = klpd(host)
    host.run(f"kill -KILL {RELEASE}", check=True)
    soon(host, f"test {RELEASE} != 0 && ! klpctl status | grep -q 'klpd-release is not there'")
    host.run(f"kill -STOP {RELEASE}", check=True)
    signal_klpd(host, "STOP")
    opener = spawn_held(host, f"cat {files[0]}")
    signal_klpd(host, "KILL")
    wait_for_another(host, before)
    assert opener.wait(TIMEOUT) == 0
    host.run(f"timeout 20 insmod {files[1]} && insmod {TREE}/klp_add.ko", check=True)
    soon(host, "! klpctl status | grep -q 'klpd-release is not there'")
    host.run(f"kill -STOP {RELEASE}; systemctl stop klpd", check=True)
    host.run(f"timeout 20 cat {files[2]} > /dev/null", check=True)
