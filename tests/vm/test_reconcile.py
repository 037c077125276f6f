# SPDX-License-Identifier: GPL-2.0-or-later
"""What is installed is compared with what was approved, and a surprise is reported or taken out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from klpd.messages import MessageId
from tests.vm.livepatches import ALLOW_ALL, ALLOW_GAPS, installed, journal, put_livepatches, set_policy, wait_settled
from tests.vm.marks import extended

if TYPE_CHECKING:
    from tests.vm.host import Host

pytestmark = extended

POLICY = "/etc/klpd/policy.d/50-test.toml"
DISABLE = '[policy]\non-drift = "disable"\n'
STICKY = DISABLE + "\n[[state]]\nid = 0x2001\nsticky = true\n"


def load_early(host: Host, name: str) -> None:
    """As the initramfs does, before there is a gate."""
    put_livepatches(host, name)
    host.run(f"insmod {name}.ko", check=True)
    wait_settled(host)


def drift(host: Host) -> list[str]:
    host.run("sleep 2.5")
    status = json.loads(host.run("klpctl status --json", check=True).stdout)
    return [each["livepatch"] for each in status["drift"]]


def test_a_livepatch_from_before_is_reported_and_kept(bare_host: Host) -> None:
    load_early(bare_host, "klp_add")
    bare_host.run("systemctl start klpd", check=True)
    assert drift(bare_host) == ["klp_add"]
    assert "drift: klp_add" in bare_host.run("klpctl status").stdout
    (entry,) = journal(bare_host, MessageId.DRIFT_FOUND)
    assert entry["KLPD_LIVEPATCH"] == "klp_add"
    assert installed(bare_host) == ["klp_add"]
    set_policy(bare_host, ALLOW_ALL)
    assert drift(bare_host) == []


def test_where_the_policy_says_so_it_is_taken_out(bare_host: Host) -> None:
    load_early(bare_host, "klp_add")
    bare_host.write(POLICY, DISABLE.encode())
    bare_host.run("systemctl start klpd", check=True)
    bare_host.run("while [ -e /sys/module/klp_add ]; do sleep 0.2; done", check=True, timeout=60)
    assert drift(bare_host) == []
    assert journal(bare_host, MessageId.JOB_DONE)


def test_but_not_against_the_rules_on_its_states(bare_host: Host) -> None:
    load_early(bare_host, "klp_sticky")
    bare_host.write(POLICY, STICKY.encode())
    bare_host.run("systemctl start klpd", check=True)
    assert drift(bare_host) == ["klp_sticky"]
    (entry,) = journal(bare_host, MessageId.JOB_REFUSED)
    assert "50-test.toml:6" in entry["MESSAGE"]
    assert installed(bare_host) == ["klp_sticky"]


def test_what_was_approved_stays_no_drift_over_a_restart_and_a_stricter_policy(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_add")
    host.run("klpctl apply klp_add.ko", check=True)
    host.run(f"rm {POLICY} && systemctl restart klpd", check=True)
    assert drift(host) == []


def test_a_livepatch_from_before_is_known_by_its_file_and_there_is_a_way_back_to_it(bare_host: Host) -> None:
    load_early(bare_host, "klp_cmdline_v1")
    bare_host.run("cp klp_cmdline_v1.ko /lib/modules/$(uname -r)/", check=True)
    bare_host.write(POLICY, ALLOW_GAPS.encode())
    bare_host.run("systemctl start klpd", check=True)
    put_livepatches(bare_host, "klp_cmdline_v2")
    bare_host.run("klpctl apply klp_cmdline_v2.ko && klpctl revert --yes", check=True)
    assert installed(bare_host) == ["klp_cmdline_v1"]
