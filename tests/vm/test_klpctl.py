# SPDX-License-Identifier: GPL-2.0-or-later
"""klpctl with the real klpd: what it shows of a transition, from afar, and with a password asked for."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

from klpd.errors import ExitStatus
from tests.vm.livepatches import ALLOW_ALL, installed, put_livepatches, set_policy
from tests.vm.marks import extended

if TYPE_CHECKING:
    from tests.vm.channel import RemoteCommand
    from tests.vm.host import Host

HOLD = "echo 1 > /proc/klp_test_target/hold"
LET_GO = "echo 0 > /proc/klp_test_target/hold"
HELD_FUNCTION = "klp_test_wait [klp_test_target]"
UNDER_WAY = "while ! grep -qs 1 /sys/kernel/livepatch/klp_stuck/transition; do sleep 0.1; done"
# A server for this host alone, and a key that opens it for root and alice.
START_SSH = """\
set -e
mkdir -p /run/sshd .ssh
ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519
cp .ssh/id_ed25519.pub .ssh/authorized_keys
install -o alice -D .ssh/id_ed25519.pub ~alice/.ssh/authorized_keys
echo 'StrictHostKeyChecking no' > .ssh/config
/usr/sbin/sshd -o ListenAddress=127.0.0.1
"""
ADMINISTRATOR = 'polkit.addAdminRule(function(action, subject) { return ["unix-user:alice"]; });\n'
SECRET = "correct horse"


def test_a_transition_is_shown_followed_and_waited_for_while_it_runs(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_test_target", "klp_stuck")
    nothing = host.run("klpctl blockers", check=True)
    assert nothing.stdout == "no transition runs\n"
    host.run(f"insmod klp_test_target.ko && {HOLD}", check=True)
    apply = host.spawn("exec klpctl apply klp_stuck.ko")
    host.run(f"{UNDER_WAY}; sleep 3", check=True)

    transition = json.loads(host.run("klpctl blockers --json", check=True).stdout)
    assert (transition["livepatch"], transition["on_timeout"], transition["may_force"]) == (
        "klp_stuck",
        "reverse",
        False,
    )
    (straggler,) = transition["stragglers"]
    assert (straggler["command"], straggler["function"]) == ("klp_test_held", HELD_FUNCTION)
    shown = host.run("klpctl blockers", user="alice", check=True).stdout
    assert "klp_stuck: patching, 1 of " in shown
    assert "klpd (job 1) reverses it; no rule lets it be forced" in shown
    assert f"held by    {HELD_FUNCTION}\n" in shown
    assert "sleeping, stuck for " in shown
    assert host.run("klpctl list").stdout.splitlines()[1].split()[:2] == ["klp_stuck", "patching"]
    number, kind, *goal = host.run("klpctl jobs").stdout.splitlines()[1].split()
    assert (kind, goal[:4]) == ("apply", ["apply", "klp_stuck", "running", "root"])

    follower = host.spawn("exec klpctl blockers --follow", user="alice")
    left = host.spawn(f"exec klpctl wait {number}")
    waiting = host.spawn(f"exec klpctl wait {number} --json", user="alice")
    for each in (follower, left):
        each.wait_for_output("klp_stuck", 30)
    left.signal(signal.SIGINT)
    assert left.wait(30) == 128 + signal.SIGINT
    assert f"klpctl wait {number}" in left.stderr.decode()
    host.run(LET_GO, check=True)
    assert (apply.wait(60), follower.wait(60), waiting.wait(60)) == (0, 0, 0)
    assert follower.stdout.decode().endswith("the transition of klp_stuck has ended\n")
    assert json.loads(waiting.stdout)["state"] == "done"
    assert host.run("klpctl list --names").stdout == "klp_stuck\n"
    assert host.run("klpctl wait 99").returncode == ExitStatus.USAGE


@extended
def test_what_plain_tools_leave_behind_is_removed(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_add", "klp_cmdline_v1")
    applied = host.run("klpctl apply klp_cmdline_v1.ko - < klp_add.ko", check=True)
    assert applied.stdout.endswith(": done\n")
    assert installed(host) == ["klp_add", "klp_cmdline_v1"]
    host.run("install -t ~alice klp_add.ko", check=True)
    inspected = json.loads(host.run("klpctl inspect --json ~alice/klp_add.ko", user="alice", check=True).stdout)
    assert inspected["layout"] == f"BTF of {host.run('uname -r').stdout.strip()}"
    remembered = json.loads(host.run(f"cat /var/lib/klpd/livepatches/{inspected['digest']}.json", check=True).stdout)
    assert remembered["layout"] == inspected["layout"]
    compared = json.loads(host.run("klpctl diff --json klp_cmdline_v1.ko klp_add.ko", check=True).stdout)
    assert compared["states"] == [{"id": 0x1001, "before": 1}, {"id": 0x1003, "after": 1}]
    assert (compared["loading"], compared["reversible"]) == ([], True)
    again = host.run("klpctl apply klp_cmdline_v1.ko klp_add.ko", check=True)
    assert "already" in again.stdout
    host.run("echo 0 > /sys/kernel/livepatch/klp_add/enabled", check=True)
    host.run("while test -e /sys/kernel/livepatch/klp_add; do sleep 0.1; done", check=True)
    assert "klpctl remove klp_add" in host.run("klpctl status").stdout
    assert host.run("klpctl remove klp_cmdline_v1").returncode != 0
    host.run("klpctl remove klp_add", check=True)
    assert "klp_add" not in host.run("cat /proc/modules").stdout
    assert installed(host) == ["klp_cmdline_v1"]


@extended
def test_another_host_is_reached_over_ssh_with_the_files_of_this_one(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_add", "klp_other_kernel")
    host.run(START_SSH, check=True)
    host.run("mkdir here && mv klp_*.ko here", check=True)
    there = "klpctl --host root@localhost"
    checked = host.run(f"{there} check here/klp_add.ko --json", check=True)
    assert json.loads(checked.stdout)["livepatch"] == "klp_add"
    applied = host.run(f"{there} apply here/klp_add.ko", check=True)
    assert applied.stdout.endswith("apply klp_add: done\n")
    assert host.run(f"{there} apply - < here/klp_other_kernel.ko").returncode == ExitStatus.VETOED
    assert host.run(f"{there} list --names").stdout == "klp_add\n"
    assert host.run("ls -d /tmp/klpctl*").stdout == ""

    revert = host.spawn(f"exec {there} revert --to original", terminal=(24, 100))
    revert.wait_for_output("Take these steps? [y/N]", 60)
    revert.write(b"y\r", 30)
    assert revert.wait(60) == 0
    assert installed(host) == []

    nowhere = host.run("klpctl --host nowhere.invalid status")
    assert nowhere.returncode == ExitStatus.NO_DAEMON
    assert "nowhere.invalid cannot be reached over ssh" in nowhere.stderr


@extended
def test_an_administrator_is_asked_for_his_password_and_nobody_else_waits(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_add", "klp_stuck", "klp_test_target")
    host.run("install -m 644 klp_add.ko klp_stuck.ko /tmp/", check=True)
    host.run(f"insmod klp_test_target.ko && {HOLD}", check=True)
    host.write("/etc/polkit-1/rules.d/10-alice.rules", ADMINISTRATOR.encode())
    host.run(f"echo 'alice:{SECRET}' | chpasswd; {START_SSH}", check=True)

    unasked = host.run("klpctl apply /tmp/klp_add.ko", user="alice")
    assert unasked.returncode == ExitStatus.NOT_AUTHORIZED
    # polkit's agent stands back for a session's own, and so there has to be a session: alice logs in.
    log_in = "exec ssh -t alice@localhost"
    wrong = asked(host, f"{log_in} klpctl apply /tmp/klp_add.ko")
    assert host.run("klpctl jobs").stdout.splitlines()[-1].split()[-3:] == ["authorizing", "alice", "-"]
    wrong.write(b"wrong\r", 30)
    assert wrong.wait(60) == ExitStatus.NOT_AUTHORIZED

    canceled = asked(host, f"{log_in} klpctl apply /tmp/klp_stuck.ko")
    canceled.write(f"{SECRET}\r".encode(), 30)
    canceled.wait_for_output("klp_test_held", 60)
    canceled.write(b"\x03", 30)
    assert canceled.wait(60) == ExitStatus.FAILED
    assert b"canceled: the transition of klp_stuck was reversed" in canceled.stdout
    assert SECRET.encode() not in canceled.stdout

    applied = asked(host, "exec klpctl --host alice@localhost apply klp_add.ko")
    applied.write(f"{SECRET}\r".encode(), 30)
    assert applied.wait(60) == ExitStatus.OK
    assert installed(host) == ["klp_add"]
    assert host.run("pgrep pkttyagent").stdout == ""

    refused = host.spawn(f"{log_in} klpctl disable klp_add --no-ask-password", terminal=(24, 100))
    assert refused.wait(60) == ExitStatus.NOT_AUTHORIZED


def asked(host: Host, command: str) -> RemoteCommand:
    """Start a command that has a password asked for; while it waits for that, others are answered."""
    running = host.spawn(command, terminal=(24, 100))
    running.wait_for_output("Password: ", 60)
    host.run("klpctl status && klpctl check /tmp/klp_add.ko", user="alice", check=True)
    return running
