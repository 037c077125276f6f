# SPDX-License-Identifier: GPL-2.0-or-later
"""Audit mode judges and records, and refuses nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from klpd.messages import MessageId
from tests.vm.livepatches import installed, journal, put_into_tree, put_livepatches, set_policy, wait_settled
from tests.vm.marks import extended

if TYPE_CHECKING:
    from tests.vm.host import Host

pytestmark = extended

AUDIT = '[policy]\nmode = "audit"\n'


def test_what_the_policy_denies_comes_in_and_is_recorded_with_the_rule(host: Host) -> None:
    set_policy(host, AUDIT)
    put_into_tree(host, "klp_add")
    host.run("insmod /lib/modules/$(uname -r)/updates/klp_add.ko", check=True)
    wait_settled(host)
    (entry,) = journal(host, MessageId.LOAD_AUDITED)
    assert (entry["KLPD_LIVEPATCH"], entry["KLPD_DECISION"]) == ("klp_add", "deny")
    assert "10-klpd.toml" in entry["KLPD_RULE"]
    status = json.loads(host.run("klpctl status --json", check=True).stdout)
    assert {each["name"]: each["state"] for each in status["defences"]}["guard"] == "degraded"


def test_jobs_are_done_that_enforcing_would_refuse(host: Host) -> None:
    set_policy(host, AUDIT)
    put_livepatches(host, "klp_add")
    assert "vetoed" in host.run("klpctl check klp_add.ko").stdout
    host.run("klpctl apply klp_add.ko", check=True)
    assert installed(host) == ["klp_add"]


def test_enforcing_again_is_a_reload_away(host: Host) -> None:
    put_livepatches(host, "klp_add")
    set_policy(host, AUDIT)
    set_policy(host, '[policy]\nmode = "enforce"\n')
    assert "Operation not permitted" in host.run("insmod klp_add.ko").stderr
