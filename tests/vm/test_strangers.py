# SPDX-License-Identifier: GPL-2.0-or-later
"""What users do to klpd on the bus, and what becomes of the bus, ends nothing and keeps nobody waiting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.vm.host import TIMEOUT
from tests.vm.livepatches import ALLOW_ALL, installed, put_into_tree, put_livepatches, set_policy, wait_settled
from tests.vm.test_hold import REFUSED, TREE, klpd, soon, tree, wait_for_another
from tests.vm.test_nobody_waits import SLACK, timed

if TYPE_CHECKING:
    from tests.vm.host import Host

IN_GUEST: Final = Path(__file__).parent / "in_guest"
AS_NOBODY: Final = "nice setpriv --reuid=65534 --regid=65534 --clear-groups"
MOST_THREADS: Final = 19
"""With all that are made when they are needed for the first time."""
STATUS: Final = "klpctl status > /dev/null"


class Taken(NamedTuple):
    """What a klpd has taken of the machine."""

    pid: str
    descriptors: int
    threads: int
    kib: int


def taken(host: Host) -> Taken:
    pid = klpd(host)
    words = host.run(
        f"ls /proc/{pid}/fd | wc -l; sed -n 's/^Threads://p; s/^VmRSS:\\(.*\\) kB/\\1/p' /proc/{pid}/status", check=True
    ).stdout.split()
    descriptors, kib, threads = (int(each) for each in words)
    return Taken(pid, descriptors, threads, kib)


def seconds(host: Host, command: str) -> float:
    """How long a command takes."""
    timer = "import subprocess, sys, time; t = time.monotonic(); subprocess.run(sys.argv[1], shell=True, check=True)"
    return float(host.run(["python3", "-c", f"{timer}; print(time.monotonic() - t)", command], check=True).stdout)


def test_a_storm_of_nobodys_calls_takes_nothing_from_klpd_and_keeps_root_from_nothing(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_add", "klp_other")
    host.put(IN_GUEST / "openers.py", "/root/openers.py")
    host.put(IN_GUEST / "strangers.py", "/tmp/strangers.py")
    host.run("chmod 644 /tmp/strangers.py", check=True)
    # What is made once, when it is needed:
    host.run(f"{AS_NOBODY} python3 -I /tmp/strangers.py 40", check=True, timeout=200)
    alone = max(seconds(host, STATUS) for _each in range(2))
    soon(host, "test $(busctl tree --list org.klpd1 | grep -c job/) -le 16")
    before = taken(host)

    storm = host.spawn(f"exec {AS_NOBODY} python3 -I /tmp/strangers.py 1000")
    beside = [seconds(host, STATUS) for _each in range(4)]
    opened = timed(host, f"{tree(host)}/klp_other.ko")
    assert storm.wait(300) == 0
    told: dict[str, int] = json.loads(storm.stdout)
    assert told.get("org.freedesktop.DBus.Error.LimitsExceeded", 0) > 0
    assert not {"org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected"} & told.keys()
    assert max(beside) <= 4 * alone + 2 * SLACK, (alone, beside)
    assert max(opened) <= 2 * SLACK

    soon(host, f"test $(ls /proc/{before.pid}/fd | wc -l) -le {before.descriptors}")
    after = taken(host)
    assert after.pid == before.pid
    assert after.threads <= MOST_THREADS
    assert after.kib <= before.kib + 4096, (before, after)
    host.run(f"insmod {TREE}/klp_add.ko", check=True)


def test_klpd_goes_on_without_the_bus_and_is_there_again_with_it_and_only_systemctl_ends_it(host: Host) -> None:
    set_policy(host, ALLOW_ALL + '[[livepatch]]\nmatch = { name = "klp_other" }\nverdict = "deny"\n')
    put_livepatches(host, "klp_test_target", "klp_stuck")
    put_into_tree(host, "klp_add", "klp_other")
    host.run("insmod klp_test_target.ko && echo 1 > /proc/klp_test_target/hold", check=True)
    apply = host.spawn("klpctl apply klp_stuck.ko")
    host.run("while ! grep -qs 1 /sys/kernel/livepatch/*/transition; do sleep 0.1; done", check=True)
    before = klpd(host)
    host.run("systemctl stop dbus.socket dbus.service", check=True)
    apply.wait(TIMEOUT)
    assert REFUSED in host.run(f"insmod {TREE}/klp_other.ko").stderr
    host.run("echo 0 > /proc/klp_test_target/hold", check=True)
    wait_settled(host)
    host.run(f"insmod {TREE}/klp_add.ko", check=True)
    assert klpd(host) == before
    host.run("systemctl start dbus.socket", check=True)
    soon(host, "klpctl status --json > status")
    assert [each["state"] for each in json.loads(host.run("cat status", check=True).stdout)["jobs"]] == ["done"]
    assert sorted(installed(host)) == ["klp_add", "klp_stuck"]
    assert "klp_5fadd" in host.run("busctl tree --list org.klpd1", check=True).stdout
    assert klpd(host) == before

    host.run(f"kill -TERM {before}", check=True)
    wait_for_another(host, before)
    host.run("klpctl status", check=True)
