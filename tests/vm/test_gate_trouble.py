# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate while klpd is in trouble, comes back, or is upgraded: it stays closed, or says that it is open."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from klpd.errors import ExitStatus
from klpd.messages import MessageId
from tests.vm.lab import Lab
from tests.vm.livepatches import journal, put_livepatches
from tests.vm.marks import extended

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.vm.host import Host

pytestmark = extended

NAME: Final = "klp_cmdline_v1"
OBJECT: Final = "/usr/lib/python3/dist-packages/klpd/kernel/bpf/guard.bpf.o"
IDENTITY: Final = "stat --format %i /sys/fs/bpf/klpd/guard/load_file"
MOUNT: Final = "mount -t bpf bpf /sys/fs/bpf"


def guard(host: Host) -> tuple[str, str]:
    """The state of klpd's guard, and what `klpctl guard status` says of it."""
    shown = json.loads(host.run("klpctl guard status --json").stdout)
    return shown["state"], shown["detail"]


def refused(host: Host) -> bool:
    """Whether a livepatch that no rule names is refused."""
    put_livepatches(host, NAME)
    return "Operation not permitted" in host.run(f"insmod {NAME}.ko").stderr


@contextmanager
def hammering(host: Host, way: str) -> Iterator[None]:
    """Meanwhile somebody loads a livepatch that the policy denies, again and again: he is always refused."""
    lab = Lab(host)
    loader = host.spawn(["python3", "-I", "guard_lab.py", "load_until", way, lab.livepatch(NAME), "/root/stop"])
    host.run("until test -e stop.started; do sleep 0.1; done", check=True)
    yield
    host.run("touch stop", check=True)
    assert loader.wait(60) == 0
    assert set(json.loads(loader.stdout)) == {"EPERM"}
    assert host.run("ls /sys/kernel/livepatch").stdout == ""


def test_a_bpf_file_system_that_is_unmounted_opens_it_and_klpd_says_so(host: Host) -> None:
    host.run("umount /sys/fs/bpf", check=True)
    state, detail = guard(host)
    assert state == "down"
    assert "its pins in /sys/fs/bpf/klpd were removed" in detail


def test_a_defence_that_goes_down_is_journalled_at_the_next_look(host: Host) -> None:
    host.run("mkdir /run/systemd/system/klpd.service.d", check=True)
    host.write("/run/systemd/system/klpd.service.d/test.conf", b"[Service]\nWatchdogSec=2s\n")
    host.run("systemctl daemon-reload && systemctl restart klpd && umount /sys/fs/bpf", check=True)
    host.run(f"until journalctl MESSAGE_ID={MessageId.DEFENCE_CHANGED} | grep -q 'guard is down'; do sleep 0.2; done")
    assert len([each for each in journal(host, MessageId.DEFENCE_CHANGED) if "guard is down" in each["MESSAGE"]]) == 1


def test_closing_it_fails_where_its_pins_are_gone_and_says_what_to_do(host: Host) -> None:
    host.run("umount /sys/fs/bpf", check=True)
    done = host.run("klpctl guard close")
    assert done.returncode == ExitStatus.FAILED
    assert "were removed" in done.stderr
    assert "systemctl restart klpd" in done.stderr


def test_a_restart_with_the_bpf_file_system_mounted_again_mends_it(host: Host) -> None:
    host.run(f"umount /sys/fs/bpf && {MOUNT} && systemctl restart klpd", check=True)
    assert guard(host)[0] == "up"
    assert refused(host)


def test_klpd_starts_without_a_bpf_file_system_and_says_what_is_open(host: Host) -> None:
    host.run("umount /sys/fs/bpf && systemctl restart klpd", check=True)
    state, detail = guard(host)
    assert state == "degraded"
    assert "mount -t bpf bpf /sys/fs/bpf" in detail
    assert "those that come with init_module, from a memfd" in detail


def test_pins_that_somebody_removes_under_klpd_are_missed_and_a_restart_mends_it(host: Host) -> None:
    host.run("rm -r /sys/fs/bpf/klpd/guard", check=True)
    assert guard(host)[0] == "down"
    host.run("systemctl restart klpd", check=True)
    assert guard(host)[0] == "up"
    assert refused(host)


@pytest.mark.parametrize("way", ["memfd", "buffer"])
def test_over_a_restart_of_klpd_nothing_slips_in(host: Host, way: str) -> None:
    before = host.run(IDENTITY, check=True).stdout
    with hammering(host, way):
        host.run("systemctl restart klpd && systemctl kill --signal KILL klpd", check=True)
        host.run("until klpctl guard status; do sleep 0.2; done", check=True)
    assert host.run(IDENTITY, check=True).stdout == before


@pytest.mark.parametrize("way", ["memfd", "buffer"])
def test_over_an_upgrade_of_klpd_nothing_slips_in(host: Host, way: str) -> None:
    before = host.run(IDENTITY, check=True).stdout
    with hammering(host, way):
        host.run(f"printf '\\n' >> {OBJECT} && systemctl restart klpd", check=True)
    assert guard(host)[0] == "up"
    assert host.run(IDENTITY, check=True).stdout != before
