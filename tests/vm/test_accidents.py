# SPDX-License-Identifier: GPL-2.0-or-later
"""What may befall a machine that klpd runs on: it goes on, or comes back, and the gate stays closed meanwhile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from klpd.messages import MessageId
from tests.vm.livepatches import ALLOW_ALL, installed, journal, put_into_tree, put_livepatches, set_policy
from tests.vm.marks import extended
from tests.vm.test_gate_trouble import refused
from tests.vm.test_hold import klpd, wait_for_another

if TYPE_CHECKING:
    from tests.vm.host import Host


def states(host: Host) -> dict[str, str]:
    told = json.loads(host.run("klpctl status --json", check=True).stdout)
    return {each["name"]: each["state"] for each in told["defences"]}


@extended
def test_without_udev_klpd_sees_what_comes_and_goes_all_the_same(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_add")
    host.run("systemctl stop systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-udevd", check=True)
    host.run("insmod /lib/modules/$(uname -r)/updates/klp_add.ko", check=True)
    for message in (MessageId.LIVEPATCH_ENTERED, MessageId.LIVEPATCH_LEFT):
        host.run(f"until journalctl MESSAGE_ID={message} | grep -q klp_add; do sleep 0.2; done", check=True)
        if message is MessageId.LIVEPATCH_ENTERED:
            host.run("klpctl disable klp_add", check=True)


@extended
def test_klpd_that_is_killed_for_memory_comes_back_and_nothing_comes_in_meanwhile(host: Host) -> None:
    before = klpd(host)
    host.run("systemctl set-property --runtime klpd.service MemoryMax=4M && sleep 1; systemctl status klpd")
    host.run(f"until ! kill -0 {before}; do klpctl status; sleep 0.2; done", timeout=60)
    assert refused(host)
    host.run("systemctl set-property --runtime klpd.service MemoryMax=infinity", check=True)
    wait_for_another(host, before)
    assert states(host)["guard"] == "up"
    assert refused(host)


@extended
def test_with_a_full_run_and_a_root_that_is_read_only_klpd_starts_and_does_its_work(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_add", "klp_sticky")
    host.run("dd if=/dev/zero of=/run/filler bs=1M; dd if=/dev/zero of=/run/filler2 bs=4k; sync; mount -o remount,ro /")
    assert host.run("touch /root/x").returncode != 0
    assert host.run("echo much > /run/x").returncode != 0
    host.run("systemctl restart klpd", check=True, timeout=60)
    assert {name for name, state in states(host).items() if state != "up"} <= {"state"}
    host.run("klpctl apply klp_add.ko", check=True)
    assert states(host)["state"] == "degraded"
    assert host.run("insmod klp_sticky.ko").returncode != 0, "nobody has judged it"
    host.run("rm /run/filler* && mount -o remount,rw /", check=True)
    # A klpd that was started then has it read-only in its own mount namespace.
    host.run("systemctl restart klpd && klpctl disable klp_add", check=True)
    assert states(host)["state"] == "up"
    assert installed(host) == []


@extended
def test_who_is_held_when_the_machine_sleeps_has_his_verdict_when_it_wakes(host: Host) -> None:
    host.write("/etc/klpd/policy.d/40-time.toml", b'[policy]\nhold-timeout = "30s"\n')
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_add")
    assert "freeze" in host.run("cat /sys/power/state", check=True).stdout
    # klpd is stopped until long after the machine woke, and has an opener to answer.
    opened = host.spawn("kill -STOP $(systemctl show -P MainPID klpd); cat /lib/modules/*/updates/klp_add.ko | wc -c")
    host.run("sleep 1; rtcwake --mode freeze --seconds 5; kill -CONT $(systemctl show -P MainPID klpd)", timeout=90)
    assert opened.wait(60) == 0
    assert "PM: suspend exit" in host.run("dmesg", check=True).stdout
    host.run("insmod /lib/modules/$(uname -r)/updates/klp_add.ko", check=True)
    assert journal(host, MessageId.HOLD_TIMED_OUT) == []
