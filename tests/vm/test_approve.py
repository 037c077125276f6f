# SPDX-License-Identifier: GPL-2.0-or-later
"""Approvals that somebody asks for, on a real kernel: any program may load those bytes if the policy lets them in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from klpd.errors import ExitStatus
from klpd.messages import MessageId
from tests.vm.livepatches import ALLOW_ALL, installed, journal, put_livepatches, set_policy

if TYPE_CHECKING:
    from tests.vm.host import Host

DENY_ALL: Final = ALLOW_ALL.replace("allow", "deny")
LOAD: Final = "file=$(mktemp --suffix=.ko) && cp klp_add.ko $file && insmod $file"
"""From a file that klpd has not seen: one that was refused is watched from then on."""


def test_bytes_that_are_approved_are_loaded_from_anywhere_as_long_as_the_policy_lets_them_in(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_add", "klp_cmdline_v1")
    assert host.run(LOAD).returncode != 0

    assert "any program may load it until" in host.run("klpctl approve klp_add.ko", check=True).stdout
    host.run(LOAD, check=True)
    assert installed(host) == ["klp_add"]
    (given,) = journal(host, MessageId.APPROVAL_GIVEN)
    (loaded,) = journal(host, MessageId.LOAD_APPROVED)
    assert given["KLPD_DIGEST"] == loaded["KLPD_DIGEST"]
    assert host.run("insmod klp_cmdline_v1.ko").returncode != 0, "no other bytes are approved by that"

    # It holds for its time: what was taken out comes again, on another stack, and with a klpd that was restarted.
    host.run("klpctl disable klp_add && systemctl restart klpd", check=True)
    (approval,) = json.loads(host.run("klpctl status --json", check=True).stdout)["approvals"]
    assert (approval["livepatch"], approval["uid"]) == ("klp_add", 0)
    host.run(f"{LOAD} && klpctl disable klp_add", check=True)

    set_policy(host, DENY_ALL)
    assert host.run(LOAD).returncode != 0
    assert "klp_add: approved, and refused now" in host.run("klpctl status").stdout
    refused = host.run("klpctl approve klp_cmdline_v1.ko")
    assert refused.returncode == ExitStatus.VETOED
    assert "50-test.toml:3" in refused.stderr

    set_policy(host, ALLOW_ALL)
    host.run(f"until {LOAD}; do sleep 0.2; done && klpctl disable klp_add", check=True)
    host.run("klpctl approve --for 0 klp_add.ko", check=True)
    assert host.run(LOAD).returncode != 0
    assert len(journal(host, MessageId.APPROVAL_TAKEN_BACK)) == 1
    host.run("klpctl approve --for 1s klp_add.ko && sleep 2", check=True)
    assert host.run(LOAD).returncode != 0
    assert installed(host) == []
