# SPDX-License-Identifier: GPL-2.0-or-later
"""What klpd does at a real boot: who is refused, who comes in, and that the boot goes on whatever becomes of klpd."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from klpd.messages import MessageId
from tests.vm.boot import Options
from tests.vm.livepatches import ALLOW_ALL, installed, journal, put_into_tree, put_livepatches, wait_settled
from tests.vm.marks import extended

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vm.host import Host

pytestmark = extended

POLICY: Final = "/etc/klpd/policy.d/50-test.toml"
UNITS: Final = "/etc/systemd/system"
NO_BPF: Final = Options(klpd=False, kernel_arguments=("lsm=lockdown,capability,apparmor",))
SWITCHED_OFF: Final = Options(klpd=False, kernel_arguments=("klpd.guard=off",))


def load_at_boot(host: Host, name: str) -> None:
    """Have systemd-modules-load.service load a livepatch."""
    put_into_tree(host, name)
    host.run("depmod --all", check=True)
    host.write("/etc/modules-load.d/livepatch.conf", f"{name}\n".encode())


def add_unit(host: Host, ordering: str, command: str, wanted_by: str) -> None:
    """Have a unit, site.service, run a command at boot."""
    text = f"[Unit]\n{ordering}\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={command}\n"
    host.write(f"{UNITS}/site.service", text.encode())
    host.run(f"systemctl --quiet add-wants {wanted_by} site.service", check=True)


def load_before_klpd(host: Host, name: str) -> None:
    """Have a livepatch loaded before klpd's first unit, as the initramfs may do."""
    put_livepatches(host, name)
    ordering = "DefaultDependencies=no\nBefore=klpd-guard.service"
    add_unit(host, ordering, f"/sbin/insmod /root/{name}.ko", "sysinit.target")


def show(host: Host, unit: str, name: str) -> str:
    """A property of a unit."""
    return host.run(f"systemctl show --property {name} --value {unit}", check=True).stdout.strip()


def failed(host: Host) -> list[str]:
    """The units that have failed."""
    listed = host.run("systemctl list-units --state failed --plain --no-legend", check=True).stdout
    return [line.split()[0] for line in listed.splitlines()]


def defences(host: Host) -> dict[str, tuple[str, str]]:
    """The state and the detail of each line of defence."""
    status = json.loads(host.run("klpctl status --json", check=True).stdout)
    return {each["name"]: (each["state"], each["detail"]) for each in status["defences"]}


def drift(host: Host) -> list[str]:
    """The livepatches that klpd takes for drift, when it has looked at the stack twice."""
    host.run("sleep 2.5")
    status = json.loads(host.run("klpctl status --json", check=True).stdout)
    return [each["livepatch"] for each in status["drift"]]


def test_the_gate_is_closed_before_modules_are_loaded_and_klpd_adopts_it(bare_host: Host) -> None:
    assert bare_host.reboot() == "running"
    closed = int(show(bare_host, "klpd-guard", "ExecMainExitTimestampMonotonic"))
    loading = int(show(bare_host, "systemd-modules-load", "ExecMainStartTimestampMonotonic"))
    assert 0 < closed < loading
    assert {state for state, _ in defences(bare_host).values()} == {"up"}
    # A link that klpd had made anew would be younger than klpd.
    made = int(bare_host.run("stat --format %Y /sys/fs/bpf/klpd/guard", check=True).stdout)
    started = int(bare_host.run('date +%s --date "$(systemctl show -P ExecMainStartTimestamp klpd)"').stdout)
    assert made <= started


def test_its_units_are_in_no_ordering_cycle(bare_host: Host) -> None:
    bare_host.reboot()
    assert bare_host.run("journalctl --boot | grep -i 'ordering cycle'").stdout == ""


def test_a_livepatch_that_is_to_be_loaded_early_is_refused_and_recorded(bare_host: Host) -> None:
    load_at_boot(bare_host, "klp_add")
    assert bare_host.reboot() == "degraded"
    assert failed(bare_host) == ["systemd-modules-load.service"]
    assert "klp_add" not in bare_host.run("cat /proc/modules").stdout
    (entry,) = journal(bare_host, MessageId.LOAD_VETOED)
    assert (entry["KLPD_LIVEPATCH"], entry["KLPD_COMMAND"]) == ("klp_add", "systemd-modules")
    assert defences(bare_host)["guard"][0] == "up"


def test_without_klpd_it_is_loaded(bare_host: Host) -> None:
    load_at_boot(bare_host, "klp_add")
    bare_host.run("systemctl --quiet disable klpd klpd-guard", check=True)
    assert bare_host.reboot() == "running"
    assert installed(bare_host) == ["klp_add"]


def test_a_boot_service_after_klpd_loads_what_the_policy_allows(bare_host: Host) -> None:
    bare_host.write(POLICY, ALLOW_ALL.encode())
    put_into_tree(bare_host, "klp_add")
    bare_host.run("depmod --all", check=True)
    add_unit(bare_host, "After=klpd.service", "/sbin/modprobe klp_add", "multi-user.target")
    assert bare_host.reboot() == "running"
    wait_settled(bare_host)
    assert installed(bare_host) == ["klp_add"]
    (entry,) = journal(bare_host, MessageId.LOAD_APPROVED)
    assert (entry["KLPD_LIVEPATCH"], entry["KLPD_COMMAND"]) == ("klp_add", "modprobe")


def test_a_livepatch_from_before_the_gate_is_drift_that_is_reported(bare_host: Host) -> None:
    load_before_klpd(bare_host, "klp_add")
    assert bare_host.reboot() == "running"
    assert drift(bare_host) == ["klp_add"]
    (entry,) = journal(bare_host, MessageId.DRIFT_FOUND)
    assert entry["KLPD_LIVEPATCH"] == "klp_add"
    assert installed(bare_host) == ["klp_add"]


def test_a_livepatch_from_before_the_gate_that_the_policy_allows_is_none(bare_host: Host) -> None:
    bare_host.write(POLICY, ALLOW_ALL.encode())
    load_before_klpd(bare_host, "klp_add")
    assert bare_host.reboot() == "running"
    assert drift(bare_host) == []
    assert installed(bare_host) == ["klp_add"]


def test_the_kernels_command_line_leaves_the_gate_open(boot: Callable[[Options], Host]) -> None:
    host = boot(SWITCHED_OFF)
    load_at_boot(host, "klp_add")
    assert host.reboot() == "running"
    assert show(host, "klpd-guard", "ConditionResult") == "no"
    assert installed(host) == ["klp_add"]
    state, detail = defences(host)["guard"]
    assert state == "down"
    assert "klpd.guard=off is on the kernel's command line" in detail
    assert drift(host) == ["klp_add"]


def test_a_kernel_that_can_have_no_guard_boots(boot: Callable[[Options], Host]) -> None:
    host = boot(NO_BPF)
    assert host.reboot() == "degraded"
    assert failed(host) == ["klpd-guard.service"]
    said = host.run("journalctl --boot --unit klpd-guard --output cat").stdout
    assert '"bpf" is not among the active security modules' in said
    assert {name: state for name, (state, _) in defences(host).items()} == {
        "hold": "up",
        "guard": "degraded",
        "reconcile": "up",
        "state": "up",
    }


def test_a_policy_that_cannot_be_read_closes_the_gate_and_the_boot_goes_on(bare_host: Host) -> None:
    load_at_boot(bare_host, "klp_add")
    bare_host.run("rm -r /etc/klpd/policy.d && ln -s policy.d /etc/klpd/policy.d", check=True)
    assert bare_host.reboot() == "degraded"
    assert failed(bare_host) == ["systemd-modules-load.service"]
    assert "the policy does not check" in bare_host.run("journalctl --boot --unit klpd-guard --output cat").stdout
    assert defences(bare_host)["guard"][0] == "up"


def test_an_early_unit_that_breaks_leaves_the_gate_to_klpd(bare_host: Host) -> None:
    bare_host.write("/usr/lib/klpd/klpd-guard", b"#!/bin/sh\nexit 1\n")
    assert bare_host.reboot() == "degraded"
    assert failed(bare_host) == ["klpd-guard.service"]
    assert {state for state, _ in defences(bare_host).values()} == {"up"}


def test_an_early_unit_that_hangs_does_not_hang_the_boot(bare_host: Host) -> None:
    bare_host.write("/usr/lib/klpd/klpd-guard", b"#!/bin/sh\nsleep infinity\n")
    assert bare_host.reboot() == "degraded"
    assert failed(bare_host) == ["klpd-guard.service"]
    assert {state for state, _ in defences(bare_host).values()} == {"up"}
