# SPDX-License-Identifier: GPL-2.0-or-later
"""klpd on the system bus of a real machine, as busctl and many clients at once meet it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from klpd.errors import ExitStatus
from tests.vm.livepatches import ALLOW_ALL, installed, put_into_tree, put_livepatches, set_policy, wait_settled

if TYPE_CHECKING:
    from tests.vm.channel import RemoteCommand
    from tests.vm.host import Host

MANAGER: Final = "org.klpd1 /org/klpd1 org.klpd1.Manager"
OBJECTS: Final = "org.klpd1 /org/klpd1 org.freedesktop.DBus.ObjectManager"
ADD: Final = "/org/klpd1/livepatch/klp_5fadd"
STUCK: Final = "/org/klpd1/livepatch/klp_5fstuck"
LIVEPATCH: Final = f"org.klpd1 {STUCK} org.klpd1.Livepatch"
FIRST_JOB: Final = "org.klpd1 /org/klpd1/job/1 org.klpd1.Job"
IN_TREE: Final = f"busctl tree --list org.klpd1 | grep --quiet {STUCK}"
MONITOR: Final = "exec busctl --json=short monitor --match \"type='signal',sender='org.klpd1'\""
CLIENTS: Final = Path(__file__).parent / "in_guest" / "bus_clients.py"


def value(host: Host, command: str, user: str = "root") -> Any:  # noqa: ANN401
    """What busctl gets, as JSON has it."""
    return json.loads(host.run(f"busctl --json=short {command}", user=user, check=True).stdout)["data"]


def signals(monitor: RemoteCommand) -> list[tuple[str, str, list[Any]]]:
    """Path, member and arguments of the signals that busctl saw until now."""
    lines = monitor.stdout.decode().splitlines()
    messages = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    return [(each["path"], each["member"], each["payload"]["data"]) for each in messages]


def changes(monitor: RemoteCommand, path: str, name: str) -> list[object]:
    """The values that a property was told to have, one after another."""
    told = [data[1] for where, member, data in signals(monitor) if (where, member) == (path, "PropertiesChanged")]
    return [each[name]["data"] for each in told if name in each]


def coming_and_going(monitor: RemoteCommand, path: str) -> list[str]:
    return [member for _path, member, data in signals(monitor) if member.startswith("Interfaces") and data[0] == path]


def test_livepatches_and_jobs_come_change_and_go_on_the_bus(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_test_target")
    put_into_tree(host, "klp_stuck")
    host.run("insmod klp_test_target.ko && echo 1 > /proc/klp_test_target/hold", check=True)
    monitor = host.spawn(MONITOR)
    monitor.wait_for_output("Monitoring", 30)

    apply = host.spawn("exec klpctl apply klp_stuck.ko")
    apply.wait_for_output("klp_test_held", 60)
    assert value(host, f"get-property {MANAGER} Transition") == "klp_stuck"
    assert value(host, f"get-property {LIVEPATCH} InTransition") is True
    (straggler,) = value(host, f"get-property {FIRST_JOB} Stragglers")
    assert straggler["command"]["data"] == "klp_test_held"
    assert [each["state"]["data"] for each in value(host, f"get-property {FIRST_JOB} Steps")] == ["running"]
    host.run("echo 0 > /proc/klp_test_target/hold", check=True)
    assert apply.wait(60) == 0

    tree = host.run("busctl tree --list org.klpd1", check=True).stdout.splitlines()
    assert {"/org/klpd1", "/org/klpd1/job/1", STUCK} <= set(tree)
    introspected = host.run(f"busctl introspect {LIVEPATCH}", check=True).stdout
    assert {".Disable", ".Enabled", ".States", ".Drift"} <= {line.split()[0] for line in introspected.splitlines()}
    assert value(host, f"get-property {LIVEPATCH} States") == [[0x3002, 1]]
    assert value(host, f"get-property {FIRST_JOB} Result") == "done"
    (job,) = value(host, f"call {LIVEPATCH} Disable a{{sv}} 0")
    host.run(f"klpctl wait {job.rpartition('/')[2]}", check=True)
    assert installed(host) == []

    # What others do is told, too.
    host.run("insmod /lib/modules/$(uname -r)/updates/klp_stuck.ko", check=True)
    host.run(f"until {IN_TREE}; do sleep 0.2; done", check=True, timeout=30)
    wait_settled(host)
    host.run("echo 0 > /sys/kernel/livepatch/klp_stuck/enabled", check=True)
    host.run(f"while {IN_TREE}; do sleep 0.2; done", check=True, timeout=30)
    monitor.kill()
    assert coming_and_going(monitor, STUCK) == ["InterfacesAdded", "InterfacesRemoved"] * 2
    assert coming_and_going(monitor, job) == ["InterfacesAdded"]
    assert changes(monitor, STUCK, "InTransition")[0] is False
    assert False in changes(monitor, STUCK, "Enabled")
    transitions = changes(monitor, "/org/klpd1", "Transition")
    assert (transitions[0], transitions[-1]) == ("klp_stuck", "")
    assert changes(monitor, job, "State") == ["waiting", "running", "done"]
    assert changes(monitor, job, "Result") == ["done"]


def test_everybody_may_look_and_nobody_else_is_let_do_anything_and_a_call_starts_klpd(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_add", "klp_add_stateless")
    host.run("install -m 644 klp_add_stateless.ko /tmp && klpctl apply klp_add.ko", check=True)
    (objects,) = value(host, f"call {OBJECTS} GetManagedObjects", user="alice")
    assert set(objects) == {ADD, "/org/klpd1/job/1"}
    assert value(host, f"get-property {MANAGER} Mode", user="alice") == "enforce"
    host.run("busctl introspect org.klpd1 /org/klpd1/job/1", user="alice", check=True)
    host.run("klpctl check /tmp/klp_add_stateless.ko", user="alice", check=True)

    assert host.run("klpctl apply /tmp/klp_add_stateless.ko", user="alice").returncode == ExitStatus.NOT_AUTHORIZED
    for method, arguments in (("Force", "sa{sv} '' 0"), ("Disable", "sa{sv} klp_add 0")):
        (job,) = value(host, f"call {MANAGER} {method} {arguments}", user="alice")
        property_of = f"get-property org.klpd1 {job} org.klpd1.Job"
        host.run(f"while busctl {property_of} Result | grep -q '\"\"'; do sleep 0.1; done", timeout=30)
        assert value(host, f"{property_of} Error", user="alice") == "org.klpd1.Error.NotAuthorized"
        assert value(host, f"{property_of} StartedByUID") == 1000
    for user in ("root", "alice"):
        assert host.run(f"busctl set-property {MANAGER} Mode s audit", user=user).returncode != 0
    assert value(host, f"get-property {MANAGER} Mode") == "enforce"

    host.run("systemctl stop klpd", check=True)
    # The bus waits 25 s for a service to start, which may take longer under emulation; it goes on starting, though.
    host.run(f"until busctl call {OBJECTS} GetManagedObjects; do sleep 1; done", user="alice", check=True)
    (objects,) = value(host, f"call {OBJECTS} GetManagedObjects", user="alice")
    assert set(objects) == {ADD}
    assert host.run("systemctl is-active klpd").stdout == "active\n"


def test_many_clients_at_once_are_all_answered_and_one_job_at_a_time_changes_the_kernel(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    put_livepatches(host, "klp_cmdline_v1", "klp_cmdline_v2", "klp_add")
    host.put(CLIENTS, "/root/bus_clients.py")
    files = "klp_cmdline_v1.ko klp_cmdline_v2.ko klp_add.ko"
    found = json.loads(host.run(f"python3 -I bus_clients.py 16 {files}", check=True).stdout)
    assert found["errors"] == []
    assert found["answers"] == {"GetStatus": 16, "Check": 16, "Apply": 16}

    running: set[str] = set()
    for job, state in found["states"]:
        running = running | {job} if state == "running" else running - {job}
        assert len(running) <= 1
    assert len(found["jobs"]) == 16
    assert sum(bool(each["Steps"]) and each["Result"] == "done" for each in found["jobs"]) in (2, 3)
    # Some came too late to go back to version 1.
    late = [each for each in found["jobs"] if each["Result"] != "done"]
    assert {(each["Error"], each["Goal"]) for each in late} <= {("org.klpd1.Error.Vetoed", "apply klp_cmdline_v1")}
    assert sorted(installed(host)) in (["klp_add", "klp_cmdline_v2"], ["klp_cmdline_v2"])
