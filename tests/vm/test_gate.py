# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening and closing the gate by hand, at boot, and by the kernel's command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from klpd.errors import ExitStatus
from klpd.messages import MessageId
from tests.vm.boot import Options
from tests.vm.lab import Lab
from tests.vm.livepatches import ALLOW_ALL, installed, journal, put_into_tree, put_livepatches, set_policy
from tests.vm.marks import extended

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vm.host import Host

pytestmark = extended

POLICY: Final = "/etc/klpd/policy.d/50-test.toml"


def refused(host: Host, name: str) -> bool:
    done = host.run(f"insmod {name}.ko")
    return done.returncode != 0 and "Operation not permitted" in done.stderr


def test_open_lets_everything_in_over_a_restart_until_it_is_closed(host: Host) -> None:
    put_livepatches(host, "klp_add", "klp_cmdline_v1")
    host.run("klpctl guard status", check=True)
    assert host.run("klpctl guard open", user="alice").returncode == ExitStatus.NOT_AUTHORIZED
    assert refused(host, "klp_add")
    host.run("klpctl guard open", check=True)
    (entry,) = journal(host, MessageId.GUARD_OPENED)
    assert entry["PRIORITY"] == "2"
    host.run("systemctl restart klpd", check=True)
    assert host.run("klpctl guard status").returncode == ExitStatus.FAILED
    host.run("insmod klp_add.ko", check=True)
    host.run("klpctl guard close && klpctl guard status", check=True)
    assert refused(host, "klp_cmdline_v1")


def test_root_opens_it_without_klpd(host: Host) -> None:
    put_livepatches(host, "klp_add")
    host.run("systemctl mask klpd && systemctl stop klpd", check=True)
    assert refused(host, "klp_add")
    host.run("klpctl guard open", check=True)
    assert len(journal(host, MessageId.GUARD_OPENED)) == 1
    host.run("insmod klp_add.ko", check=True)


def test_the_early_unit_closes_it_before_modules_are_loaded_and_klpd_adopts_it(bare_host: Host) -> None:
    put_livepatches(bare_host, "klp_add")
    unit = bare_host.run("systemctl show klpd-guard -p Before -p WantedBy -p DefaultDependencies").stdout
    assert "systemd-modules-load.service" in unit
    assert "WantedBy=sysinit.target" in unit
    assert "DefaultDependencies=no" in unit
    bare_host.run("systemctl start klpd-guard", check=True)
    assert refused(bare_host, "klp_add")
    link = "find /sys/fs/bpf/klpd -name load_file -exec stat --format %i {} +"
    before = bare_host.run(link, check=True).stdout
    bare_host.run("systemctl start klpd && klpctl guard status", check=True)
    assert bare_host.run(link, check=True).stdout == before


def test_modprobe_of_a_livepatch_that_the_policy_denies_is_refused_with_the_rule(host: Host) -> None:
    put_into_tree(host, "klp_add")
    host.run("depmod --all", check=True)
    assert "Operation not permitted" in host.run("modprobe klp_add").stderr
    assert installed(host) == []
    (entry,) = journal(host, MessageId.LOAD_VETOED)
    assert (entry["KLPD_LIVEPATCH"], entry["KLPD_COMMAND"]) == ("klp_add", "modprobe")
    assert "10-klpd.toml" in entry["KLPD_RULE"]


def test_modprobe_of_a_livepatch_that_the_policy_allows_loads_it(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_into_tree(host, "klp_add")
    host.run("depmod --all && modprobe klp_add", check=True)
    assert installed(host) == ["klp_add"]
    (entry,) = journal(host, MessageId.LOAD_APPROVED)
    assert (entry["KLPD_LIVEPATCH"], entry["KLPD_COMMAND"]) == ("klp_add", "modprobe")


@pytest.mark.parametrize(("way", "call"), [("memfd", "finit_module"), ("buffer", "init_module")])
def test_a_livepatch_from_memory_is_refused_and_recorded_with_the_way_that_it_came(
    host: Host, way: str, call: str
) -> None:
    set_policy(host, ALLOW_ALL)
    lab = Lab(host)
    assert lab.load(way, lab.livepatch("klp_add")) == "EPERM"
    assert installed(host) == []
    (entry,) = journal(host, MessageId.LOAD_VETOED)
    assert (entry["KLPD_LIVEPATCH"], entry["KLPD_WAY"]) == ("klp_add", call)


@pytest.mark.parametrize(
    "damage",
    [
        f"echo '[policy' > {POLICY}",
        f"printf '\\377' > {POLICY}",
        f"mkdir {POLICY}",
        f"ln -s 50-test.toml {POLICY}",
        "rm -r /etc/klpd/policy.d && touch /etc/klpd/policy.d",
        "rm -r /etc/klpd/policy.d && ln -s policy.d /etc/klpd/policy.d",
    ],
    ids=["no-toml", "no-utf-8", "file-is-folder", "file-is-loop", "folder-is-file", "folder-is-loop"],
)
def test_a_policy_that_does_not_check_closes_it_early(bare_host: Host, damage: str) -> None:
    put_livepatches(bare_host, "klp_add")
    bare_host.run(damage, check=True)
    bare_host.run("systemctl start klpd-guard", check=True)
    assert refused(bare_host, "klp_add")


def test_the_kernels_command_line_can_leave_it_open(boot: Callable[[Options], Host]) -> None:
    host = boot(Options(kernel_arguments=("klpd.guard=off",)))
    put_livepatches(host, "klp_add")
    shown = host.run("klpctl guard status")
    assert shown.returncode == ExitStatus.FAILED
    assert "klpd.guard=off" in shown.stdout
    host.run("systemctl start klpd-guard", check=True)
    host.run("insmod klp_add.ko", check=True)
    assert installed(host) == ["klp_add"]
