# SPDX-License-Identifier: GPL-2.0-or-later
"""Files in directories that nobody watches, on a real kernel: the first try is refused, the next has its verdict."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from klpd.messages import MessageId
from tests.vm.livepatches import ALLOW_ALL, installed, journal, put_livepatches, set_policy

if TYPE_CHECKING:
    from tests.vm.host import Host

DENY: Final = ALLOW_ALL + '[[livepatch]]\nmatch = { name = "klp_cmdline_*" }\nverdict = "deny"\n'


def judged(host: Host, count: int) -> list[str]:
    """What the journal says of so many files that were refused and then judged."""
    host.run(
        f"until [ $(journalctl -o cat MESSAGE_ID={MessageId.REFUSED_FILE_JUDGED} | wc -l) -ge {count} ]; "
        "do sleep 0.2; done",
        check=True,
    )
    return [each["MESSAGE"] for each in journal(host, MessageId.REFUSED_FILE_JUDGED)]


def test_a_file_that_nobody_watches_is_judged_after_its_refusal_and_by_its_opens_from_then_on(host: Host) -> None:
    set_policy(host, DENY)
    put_livepatches(host, "klp_add", "klp_cmdline_v1", "klp_stateless")
    assert host.run("insmod klp_add.ko").returncode != 0
    assert judged(host, 1) == [
        "allowed now: /root/klp_add.ko, which was refused before it was judged; load it again",
    ]
    told = json.loads(host.run("klpctl check --json klp_add.ko", check=True).stdout)
    assert told["insmod"]["outcome"] == "allowed"
    host.run("insmod klp_add.ko", check=True)
    assert installed(host) == ["klp_add"]

    # On mounts of its own, by a path that only the two of them make.
    host.run("mkdir -p /mnt/a /mnt/b && mount -t tmpfs none /mnt/a && mkdir /mnt/a/c", check=True)
    host.run("mount --bind /mnt/a/c /mnt/b && mv klp_cmdline_v1.ko klp_stateless.ko /mnt/a/c/", check=True)
    assert host.run("insmod /mnt/b/klp_cmdline_v1.ko").returncode != 0
    denied = judged(host, 2)[1]
    assert denied.startswith("denied: /mnt/b/klp_cmdline_v1.ko, which was refused before it was judged: ")
    assert "50-test.toml:" in denied

    # What is not there any more when klpd looks: the loader has removed it.
    host.run("cd /mnt/b && exec 7< klp_stateless.ko && rm klp_stateless.ko && ! insmod /proc/self/fd/7")
    assert "klpctl approve" in judged(host, 3)[2]
