# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard's third lock: what programs other than klpd may write to the attributes of the installed livepatches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from klpd.messages import MessageId
from tests.vm.livepatches import ALLOW_ALL, installed, journal, put_into_tree, put_livepatches, set_policy, wait_settled
from tests.vm.marks import extended, on_every_kernel

if TYPE_CHECKING:
    from tests.vm.host import Host

pytestmark = extended

SITE: Final = """
[policy]
default = "allow"
[[state]]
id = 0x2001
sticky = true
"""
STICKY: Final = "klp_sticky"
FREE: Final = "klp_add_stateless"
CONDITIONAL: Final = "klp_add"
"""It cannot restore an older version of its state, which no reversal may bring back then."""
STUCK: Final = "klp_stuck"
FOLDER: Final = "/sys/kernel/livepatch"
REFUSED: Final = "Operation not permitted"


def load(host: Host, *names: str) -> None:
    """Have livepatches installed, and klpd know of it."""
    put_into_tree(host, *names)
    for name in names:
        host.run(f"insmod /lib/modules/$(uname -r)/updates/{name}.ko", check=True)
        wait_settled(host)
    look(host)


def look(host: Host) -> None:
    """Wait until klpd has judged the writes for the stack as it is: a reload looks anew, and a job looks at its end."""
    host.run("klpctl status", check=True)
    host.run("sleep 0.5")


def write(host: Host, name: str, attribute: str, value: int) -> str:
    """Write as a shell does: what it complains about."""
    return host.run(f"echo {value} > {FOLDER}/{name}/{attribute}").stderr


@pytest.fixture
def site(host: Host) -> Host:
    """With a livepatch that has to stay, and one that may go."""
    set_policy(host, SITE)
    load(host, STICKY, FREE)
    return host


@on_every_kernel
def test_a_sticky_livepatch_is_neither_disabled_nor_forced_and_another_may_go(host: Host) -> None:
    set_policy(host, SITE)
    load(host, STICKY, FREE)
    assert REFUSED in write(host, STICKY, "enabled", 0)
    assert REFUSED in write(host, STICKY, "force", 1)
    assert write(host, FREE, "enabled", 0) == ""
    wait_settled(host)
    assert installed(host) == [STICKY]


def test_a_refusal_tells_who_wanted_what_and_by_which_rule_not(site: Host) -> None:
    write(site, STICKY, "enabled", 0)
    write(site, STICKY, "force", 1)
    disable, force = journal(site, MessageId.WRITE_VETOED)
    assert (disable["KLPD_LIVEPATCH"], disable["KLPD_ATTRIBUTE"], disable["KLPD_UID"]) == (STICKY, "enabled", "0")
    assert disable["KLPD_RULE"] == "/etc/klpd/policy.d/50-test.toml:6"
    assert int(disable["KLPD_PID"]) > 1
    assert force["KLPD_ATTRIBUTE"] == "force"
    assert "such acts are denied (/usr/lib/klpd/policy.d/10-klpd.toml:" in force["KLPD_REASON"]


def test_what_is_allowed_is_told_too(site: Host) -> None:
    write(site, FREE, "enabled", 0)
    (entry,) = journal(site, MessageId.WRITE_ALLOWED)
    assert (entry["KLPD_LIVEPATCH"], entry["KLPD_ATTRIBUTE"]) == (FREE, "enabled")


def test_reading_is_free(site: Host) -> None:
    assert site.run(f"cat {FOLDER}/{STICKY}/enabled", check=True).stdout == "1\n"
    assert site.run("grep -r . /sys/kernel/livepatch | wc --lines", check=True).stdout.strip() != "0"
    assert journal(site, MessageId.WRITE_VETOED) == []


@pytest.mark.parametrize(
    "writer",
    [
        f"echo 0 | tee {FOLDER}/{STICKY}/enabled",
        f"""python3 -c 'import os; os.write(os.open("{FOLDER}/{STICKY}/enabled", os.O_RDWR), b"0")'""",
        f"mkdir other && mount -t sysfs none other && echo 0 > other/kernel/livepatch/{STICKY}/enabled",
        f"touch bound && mount --bind {FOLDER}/{STICKY}/enabled bound && echo 0 > bound",
        f"cd {FOLDER}/{STICKY} && echo 0 > enabled",
    ],
    ids=["tee", "read and write", "another mount of sysfs", "a bind mount", "a relative path"],
)
def test_it_does_not_matter_how_the_attribute_is_opened(site: Host, writer: str) -> None:
    assert REFUSED in site.run(writer).stderr
    wait_settled(site)
    assert STICKY in installed(site)


def test_it_holds_when_klpd_is_dead(site: Host) -> None:
    site.run("systemctl mask --runtime klpd && systemctl kill --signal KILL klpd", check=True)
    site.run("while systemctl is-active --quiet klpd; do sleep 0.1; done", check=True)
    assert REFUSED in write(site, STICKY, "enabled", 0)
    assert write(site, FREE, "enabled", 0) == ""


def test_klpd_itself_needs_no_permission(site: Host) -> None:
    site.run(f"klpctl disable {FREE}", check=True)
    assert installed(site) == [STICKY]
    assert journal(site, MessageId.WRITE_ALLOWED) == []


def test_another_policy_counts_from_its_reload_on(site: Host) -> None:
    set_policy(site, ALLOW_ALL)
    assert write(site, STICKY, "enabled", 0) == ""
    wait_settled(site)
    assert installed(site) == [FREE]
    set_policy(site, SITE.replace('default = "allow"', 'default = "allow"\nunknown-states = "deny"'))
    assert journal(site, MessageId.WRITE_VETOED) == []


def test_a_permission_for_a_stack_is_void_once_that_has_changed_until_klpd_has_looked_again(site: Host) -> None:
    load(site, CONDITIONAL)
    site.run("systemctl mask --runtime klpd && systemctl kill --signal STOP klpd", check=True)
    assert write(site, FREE, "enabled", 0) == ""
    site.run(f"while test -e {FOLDER}/{FREE}; do sleep 0.1; done", check=True)
    assert REFUSED in write(site, CONDITIONAL, "enabled", 0)
    site.run("systemctl kill --signal CONT klpd", check=True)
    look(site)
    assert write(site, CONDITIONAL, "enabled", 0) == ""
    assert "stale" in journal(site, MessageId.WRITE_VETOED)[0]["KLPD_REASON"]


def come_and_go(host: Host, name: str) -> None:
    """Load a livepatch and disable it as soon as its transition is over, three times."""
    for _time in range(3):
        host.run(
            f"""
            insmod /lib/modules/$(uname -r)/updates/{name}.ko
            while grep -q 1 {FOLDER}/{name}/transition; do sleep 0.01; done
            echo 0 > {FOLDER}/{name}/enabled
            while test -e {FOLDER}/{name}; do sleep 0.01; done
            until rmmod {name} 2>/dev/null; do sleep 0.01; done
            """,
            check=True,
        )
    assert journal(host, MessageId.WRITE_VETOED) == []


def test_a_policy_that_objects_to_nothing_lets_livepatches_go_as_soon_as_they_are_there(host: Host) -> None:
    set_policy(host, ALLOW_ALL + 'unknown-states = "allow"\n[transition]\nforce = "allow"\n')
    put_into_tree(host, CONDITIONAL)
    come_and_go(host, CONDITIONAL)


def test_a_livepatch_that_no_rule_is_about_goes_as_soon_as_it_is_there(host: Host) -> None:
    set_policy(host, SITE)
    load(host, STICKY)
    put_into_tree(host, FREE)
    come_and_go(host, FREE)


def test_in_audit_mode_it_is_told_and_let_through(site: Host) -> None:
    set_policy(site, SITE.replace("[policy]", '[policy]\nmode = "audit"'))
    look(site)
    assert write(site, STICKY, "enabled", 0) == ""
    (entry,) = journal(site, MessageId.WRITE_AUDITED)
    assert entry["KLPD_RULE"] == "/etc/klpd/policy.d/50-test.toml:7"


def test_an_opened_gate_is_open_for_writes(site: Host) -> None:
    site.run("klpctl guard open", check=True)
    assert write(site, STICKY, "enabled", 0) == ""
    site.run("klpctl guard close", check=True)
    assert write(site, FREE, "force", 0) != ""


@pytest.fixture
def stuck(host: Host) -> Host:
    """With a transition that waits for a task, and klpd knowing of it."""
    put_livepatches(host, "klp_test_target")
    host.run("insmod klp_test_target.ko && echo 1 > /proc/klp_test_target/hold", check=True)
    set_policy(host, SITE)
    put_into_tree(host, STUCK)
    host.run(f"insmod /lib/modules/$(uname -r)/updates/{STUCK}.ko", check=True)
    look(host)
    return host


def test_a_transition_is_reversed_by_a_plain_write_and_not_forced(stuck: Host) -> None:
    assert REFUSED in write(stuck, STUCK, "force", 1)
    assert write(stuck, STUCK, "enabled", 0) == ""
    wait_settled(stuck)
    assert installed(stuck) == []


def test_a_transition_is_forced_where_a_rule_allows_it(stuck: Host) -> None:
    set_policy(stuck, SITE + '[transition]\nforce = "allow"\n')
    assert write(stuck, STUCK, "force", 1) == ""
    wait_settled(stuck)
    assert installed(stuck) == [STUCK]


def test_a_transition_of_a_sticky_livepatch_is_not_reversed(stuck: Host) -> None:
    set_policy(stuck, SITE + '[[state]]\nid = 0x3002\nreverse = "deny"\n')
    look(stuck)
    assert REFUSED in write(stuck, STUCK, "enabled", 0)
