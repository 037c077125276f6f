# SPDX-License-Identifier: GPL-2.0-or-later
"""/var/lib/klpd full, read-only and spoilt: klpd enforces, says so, loses nothing that it was told, and starts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from klpd.messages import MessageId
from tests.vm.livepatches import ALLOW_ALL, installed, journal, put_into_tree, put_livepatches, set_policy, wait_settled
from tests.vm.test_hold import REFUSED, TREE, klpd, soon

if TYPE_CHECKING:
    from tests.vm.host import Host

DIRECTORY: Final = "/var/lib/klpd"
NOT_WRITTEN: Final = "klpctl status | grep -q 'not all written'"


def state(host: Host) -> str:
    """What `klpctl status` says of what klpd has to know after a restart."""
    told = json.loads(host.run("klpctl status --json", check=True).stdout)["defences"]
    return next(str(each["state"]) for each in told if each["name"] == "state")


def test_klpd_goes_on_with_a_state_directory_that_is_full_read_only_and_spoilt(host: Host) -> None:
    host.run(f"systemctl stop klpd && mount -t tmpfs -o size=64k none {DIRECTORY}", check=True)
    host.run(f"systemctl start klpd; head -c 60k /dev/zero > {DIRECTORY}/ballast; true")
    set_policy(host, ALLOW_ALL + '[[livepatch]]\nmatch = { name = "klp_other" }\nverdict = "deny"\n')
    put_livepatches(host, "klp_add")
    put_into_tree(host, "klp_cmdline_v1", "klp_other")
    before = klpd(host)
    host.run(f"insmod {TREE}/klp_cmdline_v1.ko", check=True)
    wait_settled(host)
    assert "apply klp_add: done" in host.run("klpctl apply klp_add.ko", check=True).stdout
    assert REFUSED in host.run(f"insmod {TREE}/klp_other.ko").stderr
    soon(host, NOT_WRITTEN)
    assert [each["KLPD_LIVEPATCH"] for each in journal(host, MessageId.LOAD_VETOED)] == ["klp_other"]
    assert klpd(host) == before

    # With room, it is written, and whoever starts anew knows it.
    host.run(f"mount -o remount,size=8m {DIRECTORY}", check=True)
    soon(host, f"! {NOT_WRITTEN}")
    host.run("systemctl restart klpd", check=True)
    assert json.loads(host.run("klpctl status --json", check=True).stdout)["drift"] == []
    told = [each["MESSAGE"] for each in journal(host, MessageId.DEFENCE_CHANGED) if "state is" in each["MESSAGE"]]
    assert ["degraded" in each for each in told].count(True) == 1

    host.run(f"mount -o remount,ro {DIRECTORY} && systemctl restart klpd", check=True)
    host.run("klpctl disable klp_add", check=True)
    soon(host, NOT_WRITTEN)
    assert installed(host) == ["klp_cmdline_v1"]

    host.run(
        f"""systemctl stop klpd; mount -o remount,rw {DIRECTORY} && cd {DIRECTORY} && set -e
        head -c 1000 /dev/urandom > history; rm -f jobs; mkdir jobs
        for each in livepatches/*.json; do head -c 100000 /dev/zero | tr '\\0' '[' > $each; done
        systemctl start klpd""",
        check=True,
    )
    assert state(host) == "up"
    assert (
        "klpctl" in host.run(f"ls {DIRECTORY}/history.unreadable-* {DIRECTORY}/jobs.unreadable-*; echo klpctl").stdout
    )
    host.run("klpctl disable klp_cmdline_v1", check=True)
    assert installed(host) == []
