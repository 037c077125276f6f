# SPDX-License-Identifier: GPL-2.0-or-later
"""An approval is worth what it was judged from: by waiting, by timing, or by another process nobody gets in by one."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Final

import pytest

from klpd.messages import MessageId
from tests.livepatches.build import build
from tests.vm.livepatches import ALLOW_ALL, installed, journal, put_into_tree, set_policy, wait_settled
from tests.vm.loading import load_when
from tests.vm.marks import extended

if TYPE_CHECKING:
    from tests.vm.host import Host

NAME: Final = "klp_add"
TREE: Final = "/lib/modules/$(uname -r)/updates"
POLICY: Final = "/etc/klpd/policy.d/50-test.toml"
DENY: Final = f'[[livepatch]]\nmatch = {{ name = "{NAME}" }}\nverdict = "deny"\n'
AUDIT: Final = '[policy]\nmode = "audit"\n'
STICKY: Final = ALLOW_ALL + "[[state]]\nid = 0x2001\nsticky = true\n"


def path(host: Host, name: str = NAME) -> str:
    return host.run(f"echo {TREE}/{name}.ko", check=True).stdout.strip()


@pytest.fixture
def opened(host: Host) -> Host:
    """With a livepatch in the module tree that the policy allows."""
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, NAME, "klp_cmdline_v1")
    return host


def reload(host: Host) -> None:
    set_policy(host, DENY)


def restart(host: Host) -> None:
    host.write(POLICY, DENY.encode())
    host.run("systemctl restart klpd", check=True)


def stop(host: Host) -> None:
    host.run("systemctl stop klpd", check=True)


def kill(host: Host) -> None:
    host.run("systemctl mask --runtime klpd && kill -KILL $(systemctl show --value -p MainPID klpd)", check=True)


def declare(host: Host) -> None:
    digest = host.run(f"sha256sum {path(host)}", check=True).stdout.split()[0]
    manifest = f'[livepatch]\nsha256 = "{digest}"\n[[state]]\nid = 0x1003\nversion = 9\n'
    host.write(path(host).replace(".ko", ".livepatch.toml"), manifest.encode())
    # Somebody opens it meanwhile, or klpd has heard of the manifest.
    host.run(f"cat {path(host)} > /dev/null", check=True)


def load_another(host: Host) -> None:
    host.run(f"insmod {path(host, 'klp_cmdline_v1')}", check=True)
    wait_settled(host)


def nothing(_host: Host) -> None:
    pass


@pytest.mark.parametrize(
    ("happens", "answer", "reason"),
    [
        (nothing, "ok", ""),
        (reload, "EPERM", "superseded"),
        pytest.param(restart, "EPERM", "superseded", marks=extended, id="restart"),
        (stop, "EPERM", "orphaned"),
        (kill, "EPERM", "orphaned"),
        (declare, "EPERM", ""),
        pytest.param(load_another, "EPERM", "stale", marks=extended, id="load_another"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_who_has_opened_a_file_loads_it_only_if_nothing_has_changed(
    opened: Host, happens: object, answer: str, reason: str
) -> None:
    assert callable(happens)
    assert load_when(opened, path(opened), lambda: happens(opened)) == answer
    if reason:
        opened.run("systemctl unmask --runtime klpd; systemctl start klpd", check=True)
        opened.run("sleep 1")
        assert reason in journal(opened, MessageId.LOAD_VETOED)[-1]["KLPD_REASON"]


def test_from_audit_to_enforcing_no_approval_is_left(host: Host) -> None:
    set_policy(host, AUDIT)
    put_into_tree(host, NAME)
    assert load_when(host, path(host), lambda: set_policy(host, '[policy]\nmode = "enforce"\n')) == "EPERM"


def test_who_reads_a_livepatch_approves_it_for_nobody_else(opened: Host) -> None:
    opened.run(f"cat {path(opened)} > /dev/null; mkdir /root/m; cp {path(opened)} /root/m/", check=True)
    assert "Operation not permitted" in opened.run(f"insmod /root/m/{NAME}.ko").stderr
    opened.run(f"insmod {path(opened)}", check=True)


def test_after_a_reload_that_denies_it_nobody_loads_what_was_read_before(opened: Host) -> None:
    opened.run(f"cat {path(opened)} > /dev/null", check=True)
    set_policy(opened, DENY)
    assert "Operation not permitted" in opened.run(f"insmod {path(opened)}").stderr
    entry = journal(opened, MessageId.LOAD_VETOED)[-1]
    assert "50-test.toml:1" in entry["KLPD_RULE"]
    assert journal(opened, MessageId.LOAD_AUDITED) == []


def test_an_approved_load_is_recorded_as_that_whoever_opens_the_file_meanwhile(opened: Host) -> None:
    reader = opened.spawn(f"while :; do cat {path(opened)} > /dev/null; done")
    for _round in range(4):
        opened.run(f"insmod {path(opened)}", check=True)
        wait_settled(opened)
        opened.run(f"klpctl disable {NAME}", check=True)
    reader.signal(signal.SIGKILL)
    opened.run("sleep 1")
    approved = [each for each in journal(opened, MessageId.LOAD_APPROVED) if each["KLPD_COMMAND"] == "insmod"]
    assert [each["KLPD_DECISION"] for each in approved] == ["allow"] * 4
    assert journal(opened, MessageId.LOAD_AUDITED) == []


def test_a_livepatch_that_is_only_being_initialised_carries_no_state_for_another(host: Host) -> None:
    set_policy(host, STICKY)
    put_into_tree(host, "klp_sticky", "klp_sticky_fails")
    host.run(f"insmod {path(host, 'klp_sticky')}", check=True)
    wait_settled(host)
    enabled = "/sys/kernel/livepatch/klp_sticky/enabled"
    assert host.run(f"sleep 1; echo 0 > {enabled}").returncode != 0
    loading = host.spawn(f"exec insmod {path(host, 'klp_sticky_fails')}")
    host.run("while [ ! -e /sys/kernel/livepatch/klp_sticky_fails ]; do sleep 0.05; done", check=True)
    for _try in range(4):
        assert host.run(f"sleep 0.5; echo 0 > {enabled}", timeout=60).returncode != 0
    assert host.run("klpctl disable klp_sticky", timeout=60).returncode != 0
    assert loading.wait(60) != 0
    assert b"No such device" in loading.stderr
    assert installed(host) == ["klp_sticky"]
    entered = [each["KLPD_LIVEPATCH"] for each in journal(host, MessageId.LIVEPATCH_ENTERED)]
    assert entered == ["klp_sticky"]
    assert host.run(f"sleep 1; echo 0 > {enabled}").returncode != 0


def test_a_module_that_is_being_loaded_is_not_the_leftover_of_a_forced_transition(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_slow")
    loading = host.spawn(f"exec insmod {path(host, 'klp_slow')}")
    host.run("while [ ! -e /sys/module/klp_slow ]; do sleep 0.05; done", check=True)
    status = json.loads(host.run("klpctl status --json", check=True).stdout)
    assert status["stack"]["leftovers"] == []
    assert "reboot" not in host.run(f"klpctl check {path(host, 'klp_slow')}").stdout
    assert loading.wait(60) == 0


def test_of_two_files_with_one_build_id_the_one_that_entered_is_in_force(host: Host) -> None:
    release = host.run("uname --kernel-release", check=True).stdout.strip()
    first = build(release=release)[NAME].read_bytes()
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, NAME)
    host.run(f"cat {path(host)} > /dev/null", check=True)
    host.write("/root/second.ko", first + b"\0" * 4)
    digest = host.run("sha256sum /root/second.ko", check=True).stdout.split()[0]
    rule = f'[policy]\non-drift = "disable"\n[[livepatch]]\nmatch = {{ sha256 = "{digest}" }}\nverdict = "allow"\n'
    set_policy(host, rule)
    host.run("klpctl apply /root/second.ko", check=True)
    for restart_first in (False, True):
        host.run("systemctl restart klpd; sleep 3" if restart_first else "sleep 3", check=True)
        status = json.loads(host.run("klpctl status --json", check=True).stdout)
        assert [each["digest"] for each in status["stack"]["livepatches"]] == [digest]
        assert status["drift"] == []
    assert installed(host) == [NAME]
