# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard does not go with a directory entry: while klpd runs, or is restarted, it keeps what its pins have lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klpd.messages import MessageId
from tests.vm.livepatches import ALLOW_ALL, put_livepatches, set_policy
from tests.vm.marks import extended
from tests.vm.test_gate_trouble import MOUNT, guard, refused
from tests.vm.test_hold import klpd, wait_for_another

if TYPE_CHECKING:
    from tests.vm.host import Host


def test_without_a_bpf_file_system_it_stays_closed_while_klpd_runs_and_when_it_was_killed(host: Host) -> None:
    host.run("umount /sys/fs/bpf", check=True)
    state, detail = guard(host)
    assert state == "degraded"
    assert "its pins in /sys/fs/bpf/klpd are gone" in detail
    assert refused(host)
    set_policy(host, ALLOW_ALL)  # another epoch
    put_livepatches(host, "klp_add")
    host.run("klpctl apply klp_add.ko", check=True)
    # Whoever comes after klpd has the guard from systemd.
    before = klpd(host)
    host.run("systemctl kill --signal KILL klpd", check=True)
    wait_for_another(host, before)
    assert refused(host)


@extended
@pytest.mark.parametrize("accident", ["umount /sys/fs/bpf", "rm -r /sys/fs/bpf/klpd"], ids=["unmounted", "removed"])
def test_who_starts_anew_pins_it_again(host: Host, accident: str) -> None:
    host.run(f"{accident}; mountpoint --quiet /sys/fs/bpf || {MOUNT}; systemctl restart klpd", check=True)
    assert guard(host)[0] == "up"
    assert refused(host)
    host.run("systemctl stop klpd", check=True)
    assert refused(host)


@extended
@pytest.mark.parametrize("pin", ["config", "approvals"])
def test_a_map_that_was_put_in_the_place_of_the_guards_is_not_taken_for_it(host: Host, pin: str) -> None:
    other = "from pathlib import Path; from klpd.kernel.guard import Guard; Guard.close_gate(directory=Path('{}'))"
    host.run("systemctl stop klpd && systemctl kill klpd; sleep 1", timeout=60)
    host.run(f'python3 -Ic "{other.format("/sys/fs/bpf/other")}"', check=True)
    host.run(
        f"rm /sys/fs/bpf/klpd/guard/{pin} && mv /sys/fs/bpf/other/guard/{pin} /sys/fs/bpf/klpd/guard/ && "
        "rm -r /sys/fs/bpf/other && systemctl start klpd",
        check=True,
    )
    assert guard(host)[0] == "up"
    assert refused(host)
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_add")
    host.run("klpctl apply klp_add.ko", check=True)


def test_pins_that_are_gone_are_told_of_and_made_again_with_the_watchdogs_ping(host: Host) -> None:
    host.run("mkdir /run/systemd/system/klpd.service.d", check=True)
    host.write("/run/systemd/system/klpd.service.d/test.conf", b"[Service]\nWatchdogSec=3s\n")
    host.run("systemctl daemon-reload && systemctl restart klpd && rm -r /sys/fs/bpf/klpd/guard", check=True)
    told = f"journalctl MESSAGE_ID={MessageId.DEFENCE_CHANGED}"
    host.run(f"until {told} | grep -q 'guard is degraded'; do sleep 0.2; done", check=True, timeout=60)
    host.run("until ls /sys/fs/bpf/klpd/guard/load_file; do sleep 0.2; done", check=True, timeout=60)
    host.run("systemctl stop klpd", check=True)
    assert refused(host)
