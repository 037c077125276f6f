# SPDX-License-Identifier: GPL-2.0-or-later
"""The hold on a real kernel: who waits, who does not, and what becomes of them when klpd is in trouble."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

import pytest

from klpd.messages import MessageId
from tests.vm.command import run
from tests.vm.host import TIMEOUT
from tests.vm.livepatches import (
    ALLOW_ALL,
    installed,
    journal,
    put_into_tree,
    put_livepatches,
    set_policy,
    wait_settled,
)
from tests.vm.loading import loaders, put_loaders
from tests.vm.marks import extended, on_the_newest_too

if TYPE_CHECKING:
    from pathlib import Path

    from tests.vm.channel import RemoteCommand
    from tests.vm.host import Finished, Host

TREE: Final = "/lib/modules/$(uname -r)/updates"
DUMMY: Final = "/lib/modules/$(uname -r)/kernel/drivers/net/dummy.ko"
REFUSED: Final = "Operation not permitted"
PATIENT: Final = '[policy]\ndefault = "allow"\nhold-timeout = "1min"\n'


def tree(host: Host) -> str:
    """TREE as processes in the host show it."""
    return host.run(f"echo {TREE}", check=True).stdout.strip()


def klpd(host: Host) -> str:
    """Its process's number."""
    return host.run("systemctl show --property MainPID --value klpd", check=True).stdout.strip()


def signal_klpd(host: Host, name: str) -> None:
    host.run(f"kill -{name} {klpd(host)}", check=True)


def wait_for_another(host: Host, before: str) -> None:
    """Wait until the service manager has put a klpd in the place of the process `before`, and it is up."""
    now = "$(systemctl show --property MainPID --value klpd)"
    host.run(f"until systemctl is-active --quiet klpd && test {now} != {before}; do sleep 0.2; done", check=True)


def spawn_held(host: Host, command: str) -> RemoteCommand:
    """Start a command that opens something, and come back when it is held."""
    running = host.spawn(f"exec {command}")
    stack = f"/proc/$(pgrep --newest --full --exact '{command}')/stack"
    host.run(f"until grep -qs fanotify_handle_event {stack}; do sleep 0.1; done", check=True, timeout=30)
    return running


def soon(host: Host, command: str) -> Finished:
    """A command that succeeds at last, when klpd has followed a change."""
    return host.run(f"for i in $(seq 50); do {command} && exit 0; sleep 0.2; done; exit 1", check=True)


def test_compressed_livepatches_are_judged_by_what_they_unpack_to(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_cmdline_v1", "klp_cmdline_v2", "klp_add")
    host.run(f"cd {TREE} && xz --check=crc32 klp_cmdline_v1.ko klp_cmdline_v2.ko && zstd --rm klp_add.ko", check=True)
    host.run("depmod --all", check=True)
    host.run("modprobe klp_cmdline_v2", check=True)
    wait_settled(host)
    host.run("modprobe klp_add", check=True)
    wait_settled(host)
    assert installed(host) == ["klp_add", "klp_cmdline_v2"]
    refused = host.run("modprobe klp_cmdline_v1")
    assert REFUSED in refused.stderr
    (entry,) = journal(host, MessageId.LOAD_VETOED)
    assert "klp_is_patch_compatible" in entry["KLPD_RULE"]
    assert entry["KLPD_FILE"].endswith("/klp_cmdline_v1.ko.xz")
    for reader in ("modinfo", "sha256sum", "xz --test", "tar --create --file /tmp/backup.tar", "cp -t /tmp"):
        host.run(f"{reader} {TREE}/klp_cmdline_v1.ko.xz", check=True)


@on_the_newest_too
def test_a_file_whose_content_is_swapped_between_open_and_load_is_refused(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_add")
    put_livepatches(host, "klp_other")
    assert loaders(host, "swap", f"{TREE}/klp_add.ko", "/root/klp_other.ko") == "EPERM"
    assert installed(host) == []
    host.run(f"insmod {TREE}/klp_add.ko", check=True)
    wait_settled(host)
    assert installed(host) == ["klp_other"]


def test_an_ordinary_module_is_looked_at_once_until_it_changes(host: Host) -> None:
    set_policy(host, PATIENT)
    host.run(f"cp {DUMMY} {TREE}.ko && cat {TREE}.ko > /tmp/copy", check=True)
    signal_klpd(host, "STOP")
    assert host.run(f"timeout 20 cat {TREE}.ko > /tmp/copy").returncode == 0
    host.run(f"cat {DUMMY} >> {TREE}.ko", check=True)
    assert host.run(f"timeout 3 cat {TREE}.ko > /tmp/copy").returncode == 124
    signal_klpd(host, "CONT")
    host.run(f"cat {TREE}.ko > /tmp/copy", check=True)


def test_ordinary_modules_come_and_go_beside_a_livepatch(host: Host) -> None:
    set_policy(host, PATIENT)
    put_into_tree(host, "klp_add")
    put_loaders(host)
    busy = host.spawn(f"python3 -I loaders.py come-and-go {DUMMY} 200")
    host.run("until grep -q '^dummy ' /proc/modules; do sleep 0.1; done", check=True)
    host.run(f"insmod {TREE}/klp_add.ko", check=True)
    assert busy.wait(TIMEOUT) == 0
    assert json.loads(busy.stdout) == {"ok": 200}
    assert installed(host) == ["klp_add"]
    assert journal(host, MessageId.LOAD_VETOED) == []


def test_of_64_loaders_at_once_one_succeeds_and_nobody_hangs(host: Host) -> None:
    set_policy(host, PATIENT)
    put_into_tree(host, "klp_add")
    ended = loaders(host, "at-once", f"{TREE}/klp_add.ko", "64")
    assert ended["ok"] == 1
    assert set(ended) <= {"ok", "EPERM", "EEXIST", "EBUSY"}
    assert sum(ended.values()) == 64
    assert installed(host) == ["klp_add"]
    assert len(journal(host, MessageId.LIVEPATCH_ENTERED)) == 1
    assert journal(host, MessageId.HOLD_TIMED_OUT) == []


def test_when_klpd_is_killed_a_held_loader_goes_on_and_is_refused(host: Host) -> None:
    set_policy(host, PATIENT)
    put_into_tree(host, "klp_add")
    before = klpd(host)
    signal_klpd(host, "STOP")
    loader = spawn_held(host, f"insmod {tree(host)}/klp_add.ko")
    signal_klpd(host, "KILL")
    assert loader.wait(TIMEOUT) != 0
    assert REFUSED in loader.stderr.decode()
    wait_for_another(host, before)
    host.run(f"insmod {TREE}/klp_add.ko", check=True)
    assert installed(host) == ["klp_add"]


def test_while_klpd_is_stopped_loaders_wait_and_get_their_verdict_when_it_goes_on(host: Host) -> None:
    set_policy(host, PATIENT + '\n[[livepatch]]\nmatch = { name = "klp_other" }\nverdict = "deny"\n')
    put_into_tree(host, "klp_add", "klp_other")
    signal_klpd(host, "STOP")
    good, bad = (spawn_held(host, f"insmod {tree(host)}/{name}.ko") for name in ("klp_add", "klp_other"))
    signal_klpd(host, "CONT")
    assert (good.wait(TIMEOUT), bad.wait(TIMEOUT) != 0) == (0, True)
    assert REFUSED in bad.stderr.decode()
    assert installed(host) == ["klp_add"]


@extended
def test_a_klpd_that_stays_stopped_is_replaced_by_the_watchdog_and_its_loaders_are_refused(host: Host) -> None:
    host.run("mkdir -p /run/systemd/system/klpd.service.d", check=True)
    host.write("/run/systemd/system/klpd.service.d/test.conf", b"[Service]\nWatchdogSec=10s\n")
    host.write("/etc/klpd/policy.d/50-test.toml", PATIENT.encode())
    host.run("systemctl daemon-reload && systemctl restart klpd", check=True)
    put_into_tree(host, "klp_add")
    before = klpd(host)
    signal_klpd(host, "STOP")
    loader = spawn_held(host, f"insmod {tree(host)}/klp_add.ko")
    assert loader.wait(60) != 0
    assert REFUSED in loader.stderr.decode()
    wait_for_another(host, before)
    host.run(f"insmod {TREE}/klp_add.ko", check=True)


def test_directories_and_mounts_that_come_later_are_watched(host: Host) -> None:
    set_policy(host, ALLOW_ALL.rstrip() + '\ndirectories = ["/srv/site/livepatches"]\n')
    put_livepatches(host, "klp_cmdline_v1", "klp_cmdline_v2", "klp_cmdline_v3", "klp_cmdline_v4")
    for number, place in enumerate(
        (
            f"mkdir -p {TREE}/new/newer && cd {TREE}/new/newer",
            f"mount -t tmpfs none {TREE}/new && cd {TREE}/new",
            "mkdir -p /srv/site/livepatches && cd /srv/site/livepatches",
            "mv /srv/site /srv/old && mkdir /srv/site && mv /srv/old/livepatches /srv/site && cd /srv/site/livepatches",
        ),
        start=1,
    ):
        file = f"klp_cmdline_v{number}.ko"
        host.run(f"{place} && cp /root/{file} . && pwd > /root/place", check=True)
        soon(host, f"insmod $(cat /root/place)/{file}")
        wait_settled(host)
        assert installed(host) == [f"klp_cmdline_v{number}"]


def test_a_directory_that_the_policy_names_no_more_is_let_alone(host: Host) -> None:
    put_livepatches(host, "klp_add")
    set_policy(host, PATIENT.rstrip() + '\ndirectories = ["/root"]\n')
    set_policy(host, PATIENT)
    signal_klpd(host, "STOP")
    host.run("timeout 20 cat klp_add.ko > /tmp/copy", check=True)
    signal_klpd(host, "CONT")
    assert REFUSED in host.run("insmod klp_add.ko").stderr


@pytest.fixture
def disk(host: Host, tmp_path: Path) -> Host:
    """A host with a disk in its module tree that can be made to hang: livepatches on it, and nothing of them cached."""
    put_livepatches(host, "klp_add", "klp_cmdline_v1")
    run(["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0,lazy_itable_init=1", tmp_path / "image", "8M"])
    host.put(tmp_path / "image", "/root/image")
    host.run(
        f"""set -e
        modprobe loop
        modprobe dm-mod
        loop=$(losetup --find --show image)
        echo "0 16384 linear $loop 0" | dmsetup create --noudevsync slow
        dmsetup mknodes
        mkdir -p {TREE} && mount /dev/mapper/slow {TREE}
        cp klp_add.ko {TREE} && sync && echo 1 > /proc/sys/vm/drop_caches
        """,
        check=True,
    )
    return host


def hang(host: Host) -> None:
    host.run("dmsetup suspend --noudevsync --nolockfs --noflush slow", check=True)


def go_on(host: Host) -> None:
    host.run("dmsetup resume --noudevsync slow", check=True)


def test_a_policy_can_be_reloaded_while_an_open_is_held(disk: Host) -> None:
    set_policy(disk, PATIENT.replace("allow", "deny"))
    hang(disk)
    loader = spawn_held(disk, f"insmod {tree(disk)}/klp_add.ko")
    set_policy(disk, PATIENT)
    go_on(disk)
    assert loader.wait(TIMEOUT) == 0
    assert installed(disk) == ["klp_add"]


def test_an_opener_goes_on_after_the_hold_timeout_though_judging_hangs(disk: Host) -> None:
    set_policy(disk, PATIENT.replace("1min", "2s"))
    disk.run("mkdir /lib/modules/$(uname -r)/other && cp klp_cmdline_v1.ko /lib/modules/$(uname -r)/other", check=True)
    hang(disk)
    began = time.monotonic()
    disk.run(f"true < {TREE}/klp_add.ko", check=True)
    assert time.monotonic() - began > 1.9
    (entry,) = journal(disk, MessageId.HOLD_TIMED_OUT)
    assert entry["KLPD_FILE"].endswith("/klp_add.ko")
    soon(disk, "insmod /lib/modules/$(uname -r)/other/klp_cmdline_v1.ko")
    wait_settled(disk)
    go_on(disk)
    disk.run(f"insmod {TREE}/klp_add.ko", check=True)
