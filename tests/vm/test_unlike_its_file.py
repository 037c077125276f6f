# SPDX-License-Identifier: GPL-2.0-or-later
"""What a livepatch is once it is in force is compared with what was judged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from klpd.messages import MessageId
from tests.vm.livepatches import ALLOW_ALL, installed, journal, put_into_tree, set_policy, wait_settled
from tests.vm.test_hold import TREE, soon

if TYPE_CHECKING:
    from tests.vm.host import Host


def test_what_code_has_changed_is_drift_though_it_was_approved_and_goes_where_the_policy_says_so(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_changes")
    inspected = json.loads(host.run(f"klpctl inspect --json {TREE}/klp_changes.ko", check=True).stdout)
    assert inspected.get("replace") is None
    assert inspected["states"] == [{"id": 0x1008, "version": 1}]
    host.run(f"insmod {TREE}/klp_changes.ko", check=True)
    wait_settled(host)
    soon(host, "klpctl status --json | grep -q unlike-its-file")
    (drift,) = json.loads(host.run("klpctl status --json", check=True).stdout)["drift"]
    assert drift["verdict"]["findings"][0]["message"] == (
        "klp_changes is in force with state 0x1008 version 9; its file has state 0x1008 version 1"
    )
    assert len(journal(host, MessageId.DRIFT_FOUND)) == 1
    set_policy(host, ALLOW_ALL + 'on-drift = "disable"\n')
    soon(host, "test -z $(ls /sys/kernel/livepatch)")
    assert installed(host) == []
