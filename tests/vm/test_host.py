# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests may rely on in a test host."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.vm import kernel
from tests.vm.boot import Options
from tests.vm.cache import Cache, default_folder
from tests.vm.errors import CommandFailed, CommandTimeout, HarnessError, HostDied
from tests.vm.marks import extended

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.vm.host import Host

pytestmark = extended

BARE = Options(klpd=False)


def test_runs_debians_kernel_with_livepatching_and_bpf(bare_host: Host) -> None:
    assert bare_host.run("uname -r").stdout.strip() == kernel.release(Cache(default_folder()), kernel.STOCK)
    assert bare_host.run("test -d /sys/kernel/livepatch").returncode == 0
    assert "bpf" in bare_host.run("cat /sys/kernel/security/lsm").stdout.strip().split(",")
    assert bare_host.run("stat --file-system --format %T /sys/fs/bpf").stdout.strip() == "bpf_fs"


def test_boots_without_a_failed_unit(bare_host: Host) -> None:
    assert bare_host.run("systemctl is-system-running").stdout.strip() == "running"


def test_has_no_network_but_the_loopback(bare_host: Host) -> None:
    assert bare_host.run("ls /sys/class/net").stdout.split() == ["lo"]


def test_has_the_modules_of_its_kernel(bare_host: Host) -> None:
    assert bare_host.run("modprobe dummy && rmmod dummy").returncode == 0


def test_has_this_machines_time(bare_host: Host) -> None:
    assert abs(float(bare_host.run("date +%s").stdout) - time.time()) < 60


def test_has_klpd_installed_and_stopped_where_asked(bare_host: Host) -> None:
    assert bare_host.run("systemctl is-active klpd").stdout.strip() == "inactive"
    assert bare_host.run("systemctl is-enabled klpd").stdout.strip() == "enabled"


def test_has_klpd_running(host: Host) -> None:
    assert host.run("systemctl is-active klpd").stdout.strip() == "active"


def test_each_host_has_a_fresh_kernel_and_disk(boot: Callable[[Options], Host]) -> None:
    first = boot(BARE)
    first.run("modprobe dummy && touch /root/trace", check=True)
    second = boot(BARE)
    assert first.run("test -d /sys/module/dummy -a -e /root/trace").returncode == 0
    assert second.run("test ! -d /sys/module/dummy -a ! -e /root/trace").returncode == 0


def test_memory_processors_and_kernel_arguments_are_as_asked(boot: Callable[[Options], Host]) -> None:
    host = boot(Options(klpd=False, memory=768, cpus=1, kernel_arguments=("klpd.test=1",)))
    assert "klpd.test=1" in host.run("cat /proc/cmdline").stdout.split()
    assert host.run("nproc").stdout.strip() == "1"
    _, total, unit, *_ = host.run("cat /proc/meminfo").stdout.split()
    assert unit == "kB"
    assert 512 * 1024 < int(total) <= 768 * 1024


def test_a_command_has_its_status_and_both_outputs(bare_host: Host) -> None:
    done = bare_host.run("echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_a_command_killed_by_a_signal_has_its_number(bare_host: Host) -> None:
    assert bare_host.run("kill -TERM $$").returncode == -15


def test_a_command_may_be_another_users(bare_host: Host) -> None:
    assert bare_host.run("id -un; id -Gn; pwd; echo $HOME", user="alice").stdout.split() == [
        *("alice", "alice", "/home/alice", "/home/alice")
    ]


def test_a_command_has_the_environment_and_folder_that_it_is_given(bare_host: Host) -> None:
    assert bare_host.run('echo "$A"; pwd', env={"A": "b c"}, cwd="/usr").stdout == "b c\n/usr\n"


def test_a_command_that_cannot_start_is_an_error(bare_host: Host) -> None:
    with pytest.raises(HarnessError, match="nothing-like-that"):
        bare_host.run(["nothing-like-that"])
    with pytest.raises(HarnessError, match="nobody-here"):
        bare_host.run("true", user="nobody-here")


def test_check_raises_with_what_the_command_said(bare_host: Host) -> None:
    with pytest.raises(CommandFailed, match="ended with 3\n--- stderr:\nwhy"):
        bare_host.run("echo why >&2; exit 3", check=True)


def test_a_command_out_of_time_is_killed_with_its_children(bare_host: Host) -> None:
    with pytest.raises(CommandTimeout, match="started"):
        bare_host.run("echo started; sleep 1000 & wait", timeout=1)
    assert bare_host.run("pgrep sleep").returncode == 1


def test_what_a_command_leaves_in_the_background_does_not_keep_it(bare_host: Host) -> None:
    assert bare_host.run("sleep 1000 & echo done").stdout == "done\n"
    assert bare_host.run("pgrep sleep").returncode == 0


def test_megabytes_go_in_and_out(bare_host: Host) -> None:
    data = bytes(range(256)) * 8192
    bare_host.write("/tmp/data", data)
    assert bare_host.read("/tmp/data") == data
    assert bare_host.run("cat; head -c 2000000 /dev/zero >&2", stdin=data).stderr == "\0" * 2_000_000


def test_input_that_nobody_reads_is_no_hindrance(bare_host: Host) -> None:
    assert bare_host.run("exec 0<&-; sleep 0.1; exit 4", stdin=bytes(2_000_000)).returncode == 4


def test_many_commands_run_side_by_side(bare_host: Host) -> None:
    commands = [bare_host.spawn(["sh", "-c", f"read line; echo {n} $line; seq 20000"]) for n in range(8)]
    for number, command in reversed(list(enumerate(commands))):
        command.write(f"for {number}\n".encode())
    for number, command in enumerate(commands):
        assert command.wait(60) == 0
        lines = command.stdout.decode().splitlines()
        assert lines[0] == f"{number} for {number}"
        assert lines[1:] == [str(n) for n in range(1, 20001)]


def test_a_background_command_can_be_watched_and_ended(bare_host: Host) -> None:
    command = bare_host.spawn("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done")
    command.wait_for_output("ready", 30)
    assert command.poll() is None
    command.signal(15)
    assert command.wait(30) == 5
    assert command.stdout == b"ready\nbye\n"


def test_a_command_can_have_a_terminal(bare_host: Host) -> None:
    script = "trap 'exit 6' INT; tty; stty size; read word; echo got $word >&2; while :; do sleep 0.1; done"
    command = bare_host.spawn(script, terminal=(33, 99))
    command.wait_for_output("33 99", 30)
    command.write(b"this\r")
    command.wait_for_output("got this", 30)
    command.write(b"\x03")
    assert command.wait(30) == 6
    assert command.stdout.startswith(b"/dev/pts/")


def test_files_and_folders_are_copied_with_their_modes(bare_host: Host, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "tool").write_text("#!/bin/sh\necho works\n")
    (folder / "sub" / "tool").chmod(0o755)
    (folder / "link").symlink_to("sub/tool")
    bare_host.put(folder, "/opt/new/name")
    bare_host.put(folder / "sub" / "tool", "/root/tool")
    assert bare_host.run("/opt/new/name/link && /root/tool && stat -c %U /root/tool").stdout.split() == [
        *("works", "works", "root")
    ]


def test_a_reboot_keeps_the_disk_and_nothing_else(bare_host: Host) -> None:
    bare_host.run("echo kept > /root/kept && modprobe dummy", check=True)
    left = bare_host.spawn("sleep infinity")
    booted = "cat /proc/sys/kernel/random/boot_id"
    before = bare_host.run(booted, check=True).stdout
    command_line = bare_host.read("/proc/cmdline")
    assert bare_host.reboot() == "running"
    assert bare_host.run(booted, check=True).stdout != before
    assert bare_host.read("/root/kept") == b"kept\n"
    assert bare_host.read("/proc/cmdline") == command_line
    assert bare_host.run("test -d /sys/module/dummy").returncode != 0
    with pytest.raises(HostDied, match="rebooted"):
        left.wait(30)


def test_a_panic_after_a_reboot_ends_the_host(bare_host: Host) -> None:
    bare_host.reboot()
    with pytest.raises(HostDied, match="sysrq triggered crash"):
        bare_host.run("echo c > /proc/sysrq-trigger")


def test_a_panic_ends_the_host_and_shows_the_console(bare_host: Host) -> None:
    with pytest.raises(HostDied, match="sysrq triggered crash"):
        bare_host.run("echo c > /proc/sysrq-trigger")
    with pytest.raises(HostDied, match="sysrq triggered crash"):
        bare_host.run("true")
