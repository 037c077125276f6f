# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate while klpd is in trouble, comes back, or is upgraded: it stays closed, or says that it is open."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from tests.vm.lab import Lab
from tests.vm.livepatches import put_livepatches
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


def test_klpd_starts_without_a_bpf_file_system_and_says_what_is_open(host: Host) -> None:
    host.run("systemctl stop klpd && umount /sys/fs/bpf && systemctl start klpd", check=True)
    state, detail = guard(host)
    assert state == "degraded"
    assert "mount -t bpf bpf /sys/fs/bpf" in detail
    assert "those that come with init_module, from a memfd" in detail


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
