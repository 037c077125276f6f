# SPDX-License-Identifier: GPL-2.0-or-later
"""Parameters of a livepatch on a real kernel: klpd judges by what it gives, and others' loads by anything they may."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from klpd.errors import ExitStatus
from klpd.messages import MessageId
from tests.vm.livepatches import ALLOW_ALL, ALLOW_GAPS, installed, journal, put_livepatches, set_policy, wait_settled

if TYPE_CHECKING:
    from tests.vm.host import Host

STICKY: Final = ALLOW_ALL + "[[state]]\nid = 0x2001\nsticky = true\n"


def test_what_a_parameter_decides_is_judged_by_the_value_that_klpd_gives_it(host: Host) -> None:
    set_policy(host, STICKY)
    put_livepatches(host, "klp_changes", "klp_sticky", "klp_add_stateless")
    host.run("klpctl apply klp_sticky.ko", check=True)

    # With cumulative=1 it replaces, and the state would be lost; a loader of others may give it that.
    refused = host.run("klpctl plan apply klp_changes.ko cumulative=1")
    assert refused.returncode == ExitStatus.VETOED
    assert "0x2001" in refused.stdout
    told = json.loads(host.run("klpctl check --json klp_changes.ko").stdout)
    assert [told[each]["outcome"] for each in ("insmod", "apply")] == ["refused", "allowed"]
    typo = host.run("klpctl apply klp_changes.ko comulative=1")
    assert (typo.returncode, installed(host)) == (ExitStatus.USAGE, ["klp_sticky"])
    assert "the module has no parameter comulative; it has: cumulative" in typo.stderr
    host.run("klpctl apply klp_changes.ko cumulative=n", check=True)
    assert sorted(installed(host)) == ["klp_changes", "klp_sticky"]

    # And the value comes into force: this one replaces what was there. The way back gives it that which it had then.
    set_policy(host, ALLOW_GAPS)
    host.run("klpctl disable klp_changes && klpctl disable klp_sticky && klpctl apply klp_add_stateless.ko", check=True)
    host.run("klpctl apply klp_changes.ko cumulative=1", check=True)
    assert installed(host) == ["klp_changes"]
    host.run("klpctl revert && klpctl revert --to klp_changes", check=True)
    wait_settled(host)
    livepatches = json.loads(host.run("klpctl status --json", check=True).stdout)["stack"]["livepatches"]
    assert [(each["name"], each["replace"]) for each in livepatches] == [("klp_sticky", False), ("klp_changes", False)]
    told_jobs = [each["MESSAGE"] for each in journal(host, MessageId.JOB_DONE)]
    assert any("klp_changes cumulative=1: done" in each for each in told_jobs)
