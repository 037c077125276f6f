# SPDX-License-Identifier: GPL-2.0-or-later
"""Declared states on a real kernel, which knows nothing of them: klpd keeps them all the same."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from klpd.errors import ExitStatus
from klpd.messages import MessageId
from tests.livepatches.build import build
from tests.vm.livepatches import ALLOW_ALL, installed, journal, put_into_tree, put_livepatches, set_policy, wait_settled

if TYPE_CHECKING:
    from tests.vm.host import Host

TREE: Final = "/lib/modules/$(uname -r)/updates"
SITE: Final = "/etc/klpd/livepatches.d"
REFUSED: Final = "Operation not permitted"
ALLOW_DAEMON: Final = b"""polkit.addRule(function(action, subject) {
    if (action.id == "org.klpd1.apply" && subject.user == "daemon")
        return polkit.Result.YES;
});
"""


def manifest(host: Host, name: str, state: str) -> bytes:
    """A manifest for a test livepatch, with one state, whose id is in line 4."""
    file = build(release=host.run("uname --kernel-release", check=True).stdout.strip())[name]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return f'[livepatch]\nsha256 = "{digest}"\n[[state]]\n{state}'.encode()


def status(host: Host) -> dict[str, Any]:
    found = json.loads(host.run("klpctl status --json", check=True).stdout)
    assert isinstance(found, dict)
    return found


def test_declared_states_are_kept_where_the_kernel_knows_none(host: Host) -> None:
    put_into_tree(host, "klp_allocated", "klp_add_stateless", "klp_stateless")
    # Its file tells nothing.
    set_policy(host, ALLOW_ALL)
    assert REFUSED in host.run(f"insmod {TREE}/klp_allocated.ko").stderr
    assert "klpctl manifest new" in host.run(f"klpctl check {TREE}/klp_allocated.ko").stdout
    # With a manifest of the site it is let in, and keeps what is declared to be sticky.
    site = f"{SITE}/allocated.toml"
    host.run(f"klpctl manifest new {TREE}/klp_allocated.ko --output {site}", check=True)
    host.run(f"printf '[[state]]\nid = 0x2002\nversion = 2\nsticky = true\n' >> {site}", check=True)
    host.run(f"klpctl manifest check {site} {TREE}/klp_allocated.ko && systemctl reload klpd", check=True)
    host.run(f"insmod {TREE}/klp_allocated.ko", check=True)
    wait_settled(host)
    (there,) = status(host)["stack"]["livepatches"]
    assert there["states"] == [{"id": 0x1007, "version": 1}], "what the kernel has"
    (declared,) = there["declared"]["states"]
    assert (declared["id"], declared["version"], declared["source"]) == (0x2002, 2, "manifest")
    assert "0x1007:1, 0x2002:2 (declared: manifest)" in host.run("klpctl status", check=True).stdout
    assert host.run("klpctl disable klp_allocated").returncode == ExitStatus.VETOED
    assert REFUSED in host.run("echo 0 > /sys/kernel/livepatch/klp_allocated/enabled").stderr
    (veto,) = journal(host, MessageId.WRITE_VETOED)
    line = host.run(f"sed -n '/^id = 0x2002/=' {site}", check=True).stdout.strip()
    assert veto["KLPD_RULE"] == f"{site}:{line}"
    # A later one that declares a lower version does not reach the kernel, which would take it.
    host.write(
        f"{host.run(f'echo {TREE}').stdout.strip()}/klp_add_stateless.livepatch.toml",
        manifest(host, "klp_add_stateless", "id = 0x2002\nversion = 1\n"),
    )
    host.run("dmesg --clear", check=True)
    assert REFUSED in host.run(f"insmod {TREE}/klp_add_stateless.ko").stderr
    refusal = journal(host, MessageId.LOAD_VETOED)[-1]
    assert "klp_add_stateless.livepatch.toml:4); klp_allocated has installed version 2" in refusal["KLPD_REASON"]
    assert "kernel:" not in refusal["KLPD_RULE"]
    assert "klp_add_stateless" not in host.run("dmesg").stdout
    # A policy loosens it by naming it, and klpd knows what it has seen after a restart.
    host.run("systemctl restart klpd", check=True)
    assert host.run("klpctl disable klp_allocated").returncode == ExitStatus.VETOED
    set_policy(host, f"{ALLOW_ALL}\n[[state]]\nid = 0x2002\ndrop = 'allow'\n")
    host.run("klpctl disable klp_allocated", check=True)
    assert installed(host) == []


def test_a_manifest_beside_the_module_counts_if_it_is_roots_and_for_these_very_bytes(host: Host) -> None:
    put_into_tree(host, "klp_allocated")
    set_policy(host, ALLOW_ALL)
    tree = host.run(f"echo {TREE}").stdout.strip()
    beside = f"{tree}/klp_allocated.livepatch.toml"
    good = manifest(host, "klp_allocated", "id = 0x2002\nversion = 2\nsticky = true\n")
    host.write(beside, good)
    for spoil, complaint in (
        (f"chown nobody {beside}", "it belongs to user"),
        (f"chown root {beside}; echo oops >> {beside}", f"{beside}:7:5: no TOML"),
        (f"echo >> {tree}/klp_allocated.ko; sed -i /oops/d {beside}", "it is not for klp_allocated"),
    ):
        host.run(spoil, check=True)
        assert REFUSED in host.run(f"insmod {tree}/klp_allocated.ko").stderr
        assert complaint in journal(host, MessageId.LOAD_VETOED)[-1]["KLPD_REASON"]
    put_into_tree(host, "klp_allocated")
    host.run(f"xz --check=crc32 {tree}/klp_allocated.ko && insmod {tree}/klp_allocated.ko.xz", check=True)
    wait_settled(host)
    assert REFUSED in host.run("echo 0 > /sys/kernel/livepatch/klp_allocated/enabled").stderr
    (declared,) = status(host)["stack"]["livepatches"][0]["declared"]["states"]
    assert declared["rule"]["place"].endswith(beside)
    # What the author put into the modinfo counts the same.
    put_into_tree(host, "klp_declared")
    host.run(f"insmod {tree}/klp_declared.ko", check=True)
    wait_settled(host)
    assert "0x2003:2 (declared: modinfo)" in host.run("klpctl status", check=True).stdout
    refused = host.run("klpctl disable klp_declared")
    assert refused.returncode == ExitStatus.VETOED
    assert "the modinfo of klp_declared" in refused.stdout


def test_klpctl_hands_the_manifest_beside_a_file_over_and_none_but_root_lets_a_livepatch_in_by_one(host: Host) -> None:
    put_livepatches(host, "klp_allocated")
    set_policy(host, ALLOW_ALL)
    host.write("/etc/polkit-1/rules.d/10-test.rules", ALLOW_DAEMON)
    host.write("/tmp/klp_allocated.livepatch.toml", manifest(host, "klp_allocated", "id = 0x2002\nversion = 2\n"))
    as_user = "runuser --user daemon -- klpctl"
    host.run("cp /root/klp_allocated.ko /tmp && chown daemon /tmp/klp_allocated.livepatch.toml", check=True)
    checked = host.run(f"{as_user} check /tmp/klp_allocated.ko", check=True).stdout
    assert "/tmp/klp_allocated.livepatch.toml:4" in checked
    refused = host.run(f"{as_user} apply /tmp/klp_allocated.ko")
    assert refused.returncode == ExitStatus.NOT_AUTHORIZED
    assert "only root may declare what a livepatch changes" in refused.stderr
    host.run("rm /tmp/klp_allocated.livepatch.toml", check=True)
    assert host.run(f"{as_user} apply /tmp/klp_allocated.ko").returncode == ExitStatus.VETOED
    host.write("/root/klp_allocated.livepatch.toml", manifest(host, "klp_allocated", "id = 0x2002\nversion = 2\n"))
    host.run("klpctl apply /root/klp_allocated.ko", check=True)
    assert "0x2002:2 (declared: manifest)" in host.run("klpctl status", check=True).stdout
