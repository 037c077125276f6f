# SPDX-License-Identifier: GPL-2.0-or-later
"""The test livepatches in a host, and what is asked of it again and again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.livepatches.build import build

if TYPE_CHECKING:
    from tests.vm.host import Host

ALLOW_ALL = """
[policy]
default = "allow"
"""

ALLOW_GAPS = ALLOW_ALL + 'allow-unpatched-gap = "allow"\n'


def put_livepatches(host: Host, *names: str) -> None:
    """Copy test livepatches into /root, which klpd does not watch."""
    built = build(release=host.run("uname --kernel-release", check=True).stdout.strip())
    for name in names:
        host.put(built[name], f"/root/{name}.ko")


def put_into_tree(host: Host, *names: str) -> None:
    """Copy test livepatches into the kernel's module tree, which klpd watches."""
    put_livepatches(host, *names)
    host.run("mkdir -p /lib/modules/$(uname -r)/updates", check=True)
    for name in names:
        host.run(f"cp /root/{name}.ko /lib/modules/$(uname -r)/updates/", check=True)


def set_policy(host: Host, text: str) -> None:
    """Make `text` the site's policy, and have klpd take it."""
    host.write("/etc/klpd/policy.d/50-test.toml", text.encode())
    host.run("systemctl reload klpd", check=True)


def installed(host: Host) -> list[str]:
    """The livepatches that are in force, as the kernel itself shows them."""
    return host.run("ls /sys/kernel/livepatch").stdout.split()


def wait_settled(host: Host) -> None:
    """Wait until no transition runs."""
    host.run("while grep -qs 1 /sys/kernel/livepatch/*/transition; do sleep 0.1; done", check=True, timeout=60)


def journal(host: Host, message_id: str) -> list[dict[str, str]]:
    """The entries with this MESSAGE_ID, the oldest first."""
    host.run("journalctl --sync")
    output = host.run(f"journalctl --output json MESSAGE_ID={message_id}").stdout
    return [json.loads(line) for line in output.splitlines()]
