# SPDX-License-Identifier: GPL-2.0-or-later
"""Livepatches and jobs are objects that come, change and go, and the bus tells of each of that just once."""

from __future__ import annotations

import ctypes
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest
from gi.repository import Gio, GLib
from hypothesis import given
from hypothesis import strategies as st

from klpd.daemon.bus import read_interface
from klpd.daemon.job_objects import too_many
from klpd.daemon.livepatch_objects import livepatch_path
from klpd.plain import from_plain, to_plain
from klpd.report import (
    BUS_NAME,
    JOB_INTERFACE,
    LIVEPATCH_INTERFACE,
    MANAGER_INTERFACE,
    MANAGER_PATH,
    JobReport,
    Status,
)
from tests.unit.private_bus import message_bus, service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIMEOUT_MS: Final = 20_000
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
OBJECT_MANAGER: Final = "org.freedesktop.DBus.ObjectManager"
ONE: Final = "/org/klpd1/livepatch/klp_5fone"

Signal = tuple[str, str, tuple[object, ...]]
"""Path, member, arguments."""


class Client:
    """Somebody on the bus, who hears all signals of klpd's objects."""

    def __init__(self, address: str) -> None:
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        self.connection = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
        self.connection.set_exit_on_close(False)
        self.signals: list[Signal] = []
        self.connection.signal_subscribe(
            BUS_NAME, None, None, None, None, Gio.DBusSignalFlags.NONE, lambda *heard: self._heard(*heard)
        )

    def _heard(
        self, _c: Gio.DBusConnection, _sender: str, path: str, _interface: str, member: str, values: GLib.Variant
    ) -> None:
        arguments = values.unpack()
        assert isinstance(arguments, tuple)
        self.signals.append((path, member, arguments))

    def call(self, path: str, interface: str, method: str, arguments: GLib.Variant | None = None) -> object:
        """What a method answers."""
        answer = self.connection.call_sync(
            BUS_NAME, path, interface, method, arguments, None, Gio.DBusCallFlags.NONE, TIMEOUT_MS, None
        ).unpack()
        assert isinstance(answer, tuple)
        return answer[0] if answer else None

    def test(self, method: str, *names: str) -> object:
        return self.call("/org/klpd1/test", "org.klpd1.Test", method, GLib.Variant(f"({'s' * len(names)})", names))

    def manager(self, method: str, name: str) -> str:
        arguments = GLib.Variant("(sa{sv})", (name, {}))
        return str(self.call(MANAGER_PATH, MANAGER_INTERFACE, method, arguments))

    def properties(self, path: str, interface: str) -> dict[str, object]:
        found = self.call(path, PROPERTIES, "GetAll", GLib.Variant("(s)", (interface,)))
        assert isinstance(found, dict)
        return found

    def objects(self) -> dict[str, dict[str, dict[str, object]]]:
        found = self.call(MANAGER_PATH, OBJECT_MANAGER, "GetManagedObjects")
        assert isinstance(found, dict)
        return found

    def heard(self, path: str, member: str) -> list[tuple[object, ...]]:
        """The arguments of the signals that came until now, before the last answer at least."""
        while GLib.MainContext.default().iteration(False):
            pass
        return [values for where, which, values in self.signals if (where, which) == (path, member)]

    def changed(self, path: str) -> list[dict[str, object]]:
        """What PropertiesChanged said of an object until now."""
        found = [values[1] for values in self.heard(path, "PropertiesChanged")]
        return [each for each in found if isinstance(each, dict)]

    def wait(self, true: Callable[[], object]) -> None:
        """Hear signals until `true` is; some seconds at most."""
        deadline = time.monotonic() + 20
        while not true():
            assert time.monotonic() < deadline, self.signals
            time.sleep(0.01)

    def ended(self, job: str) -> dict[str, object]:
        """Wait for a job's end; its properties then."""
        self.wait(lambda: any(values[1] == job for values in self.heard(MANAGER_PATH, "JobRemoved")))
        return self.properties(job, JOB_INTERFACE)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A client on a bus of its own, with klpd's objects on it."""
    with message_bus() as address, service(address, "tests.unit.daemon.manager_server", str(tmp_path)):
        made = Client(address)
        yield made
        made.connection.close_sync(None)


def declared(interface: str) -> dict[str, str]:
    """The properties that an interface declares, and their types."""
    (described,) = Gio.DBusNodeInfo.new_for_xml(read_interface(interface)).interfaces
    return {each.name: each.signature for each in described.properties}


def test_a_livepatch_comes_as_an_object_with_all_its_properties(client: Client) -> None:
    assert client.objects() == {}
    client.test("Install", "klp_one")
    properties = client.properties(ONE, LIVEPATCH_INTERFACE)
    report = properties.pop("Report")
    assert properties == {
        "Name": "klp_one",
        "Enabled": True,
        "InTransition": False,
        "Replace": "no",
        "Forced": "no",
        "States": [(0x1001, 1)],
        "StatesSource": "file",
        "BuildId": "klp_one",
        "Digest": "klp_one",
        "Objects": [],
        "Drift": False,
    }
    assert isinstance(report, dict)
    assert report["name"] == "klp_one"
    everything = {LIVEPATCH_INTERFACE: {**properties, "Report": report}}
    assert client.heard(MANAGER_PATH, "InterfacesAdded") == [(ONE, everything)]
    assert client.objects() == {ONE: everything}


def test_of_what_changes_only_that_is_told(client: Client) -> None:
    client.test("Install", "klp_one")
    client.test("Install", "klp_two")
    client.test("Disable", "klp_one")
    changed = client.changed(ONE)[-1]
    assert changed.keys() == {"Enabled", "InTransition", "Report"}
    assert (changed["Enabled"], changed["InTransition"]) == (False, True)
    assert client.changed(MANAGER_PATH) == [{"Transition": "klp_one"}]
    assert client.properties(MANAGER_PATH, MANAGER_INTERFACE)["Transition"] == "klp_one"
    assert client.changed("/org/klpd1/livepatch/klp_5ftwo") == []


def test_a_livepatch_goes_with_its_object(client: Client) -> None:
    client.test("Install", "klp_one")
    client.test("Disable", "klp_one")
    client.test("Settle")
    assert client.heard(MANAGER_PATH, "InterfacesRemoved") == [(ONE, [LIVEPATCH_INTERFACE])]
    assert client.objects() == {}
    assert client.changed(MANAGER_PATH)[-1] == {"Transition": ""}
    with pytest.raises(GLib.Error) as caught:
        client.properties(ONE, LIVEPATCH_INTERFACE)
    assert Gio.DBusError.get_remote_error(caught.value) == "org.freedesktop.DBus.Error.UnknownMethod"


def test_drift_is_told_of_once_it_is_found(client: Client) -> None:
    drift = "/org/klpd1/livepatch/klp_5fdrift"
    client.test("Install", "klp_drift")
    assert client.properties(drift, LIVEPATCH_INTERFACE)["Drift"] is False
    client.test("Install", "klp_one")  # and so the other one is seen for the second time
    assert client.heard(MANAGER_PATH, "DriftFound") == [("klp_drift",)]
    assert client.changed(drift) == [{"Drift": True}]


def test_a_job_is_an_object_that_tells_of_itself_until_its_end(client: Client) -> None:
    client.test("Install", "klp_one")
    job = str(client.call(ONE, LIVEPATCH_INTERFACE, "Disable", GLib.Variant("(a{sv})", ({},))))
    client.wait(lambda: any(each.get("Stragglers") for each in client.changed(job)))
    running = client.properties(job, JOB_INTERFACE)
    assert (running["Kind"], running["State"], running["Result"]) == ("disable", "running", "")
    assert running["Goal"] == "disable klp_one"
    assert running["StartedByUID"] == os.getuid()
    steps, stragglers = running["Steps"], running["Stragglers"]
    assert isinstance(steps, list)
    assert isinstance(stragglers, list)
    assert [each["state"] for each in steps] == ["running", "pending"]
    assert steps[0]["verdict"]["action"] == "disable"
    assert [each["command"] for each in stragglers] == ["runner"]
    assert (running["Progress"], running["Error"], running["Message"]) == (0.5, "", "")
    client.test("Settle")
    ended = client.ended(job)
    assert (ended["State"], ended["Result"], ended["Stragglers"]) == ("done", "done", [])
    assert all("Id" not in each and "Kind" not in each for each in client.changed(job))
    assert client.heard(MANAGER_PATH, "InterfacesAdded")[-1][0] == job
    assert list(client.objects()) == [job]
    assert client.heard(MANAGER_PATH, "JobRemoved") == [(ended["Id"], job, "done")]


def test_changes_of_a_job_are_told_one_by_one_and_only_what_differs(client: Client) -> None:
    client.test("Install", "klp_one")
    job = client.manager("Disable", "klp_one")
    client.wait(lambda: any(each.get("Stragglers") for each in client.changed(job)))
    client.test("Settle")
    client.ended(job)
    shown: dict[str, object] = {}
    for each in client.changed(job):
        assert each
        assert all(value != shown.get(name) for name, value in each.items())
        shown |= each


def test_a_job_that_fails_says_why_by_name_and_in_a_sentence(client: Client) -> None:
    job = client.manager("Disable", "klp_nowhere")
    failed = client.ended(job)
    assert (failed["Result"], failed["Error"]) == ("failed", "org.klpd1.Error.NoSuchLivepatch")
    assert "klp_nowhere" in str(failed["Message"])
    assert client.heard(MANAGER_PATH, "JobRemoved") == [(failed["Id"], job, "failed")]


def test_a_job_is_the_same_in_its_properties_its_report_and_the_status(client: Client) -> None:
    client.test("Install", "klp_one")
    job = client.manager("Disable", "klp_one")
    client.wait(lambda: any(each.get("Stragglers") for each in client.changed(job)))
    properties = client.properties(job, JOB_INTERFACE)
    report = from_plain(JobReport, properties["Report"])
    assert to_plain(report) == properties["Report"]
    assert (to_plain(report.steps), to_plain(report.stragglers)) == (properties["Steps"], properties["Stragglers"])
    status = client.call(MANAGER_PATH, MANAGER_INTERFACE, "GetStatus")
    assert from_plain(Status, status).jobs == (report,)


def test_of_the_jobs_that_ended_only_the_last_stay(client: Client) -> None:
    jobs = [client.manager("Disable", f"klp_nowhere_{number}") for number in range(40)]
    client.ended(jobs[-1])
    jobs += [client.manager("Disable", f"klp_nowhere_{number}") for number in range(40)]
    client.ended(jobs[-1])
    assert sorted(client.objects()) == sorted(jobs[-64:])
    assert len(client.heard(MANAGER_PATH, "InterfacesRemoved")) == 16


@given(st.lists(st.integers(0, 40), max_size=300))
def test_nobodys_ended_jobs_are_forgotten_for_roots_or_the_other_way_round(users: list[int]) -> None:
    ended: dict[int, int] = {}
    for job, user in enumerate(users):
        ended[job] = user
        for each in too_many(ended, user):
            del ended[each]
    left = Counter(ended.values())
    assert left[0] == min(64, users.count(0))
    assert all(left[user] <= 16 for user in left if user)
    assert left.total() - left[0] <= 64
    assert left.total() - left[0] >= min(1, sum(user > 0 for user in users))


def test_every_object_has_the_properties_that_its_interface_declares_and_none_can_be_set(client: Client) -> None:
    client.test("Install", "klp_one")
    job = client.manager("Remove", "klp_one")
    client.ended(job)
    for path, interface in ((MANAGER_PATH, MANAGER_INTERFACE), (ONE, LIVEPATCH_INTERFACE), (job, JOB_INTERFACE)):
        properties = declared(interface)
        assert client.properties(path, interface).keys() == properties.keys()
        for name, signature in properties.items():
            value = client.connection.call_sync(
                BUS_NAME,
                path,
                PROPERTIES,
                "Get",
                GLib.Variant("(ss)", (interface, name)),
                None,
                Gio.DBusCallFlags.NONE,
                TIMEOUT_MS,
                None,
            ).get_child_value(0)
            assert value.get_child_value(0).get_type_string() == signature
            with pytest.raises(GLib.Error):
                client.call(path, PROPERTIES, "Set", GLib.Variant("(ssv)", (interface, name, value)))


def test_objects_that_went_are_forgotten(client: Client) -> None:
    before = client.test("Count")
    for _each in range(20):
        client.test("ComeAndGo")
    assert client.test("Count") == before


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_paths_are_those_of_systemd(name: str) -> None:
    systemd = ctypes.CDLL("libsystemd.so.0")
    path = ctypes.c_char_p()
    assert systemd.sd_bus_path_encode(b"/org/klpd1/livepatch", name.encode(), ctypes.byref(path)) >= 0
    assert path.value is not None
    assert livepatch_path(name) == path.value.decode()


def test_a_reload_is_answered_when_it_has_its_effect_and_others_meanwhile(client: Client) -> None:
    answers: list[Gio.AsyncResult] = []
    client.connection.call(
        BUS_NAME,
        MANAGER_PATH,
        MANAGER_INTERFACE,
        "Reload",
        None,
        None,
        Gio.DBusCallFlags.NONE,
        TIMEOUT_MS,
        None,
        lambda _connection, answer: answers.append(answer),
    )
    assert client.properties(MANAGER_PATH, MANAGER_INTERFACE)["Mode"] == "enforce"
    client.heard(MANAGER_PATH, "")
    assert answers == []
    client.test("Watched")
    client.wait(lambda: client.heard(MANAGER_PATH, "") or answers)
    assert client.connection.call_finish(answers[0]).unpack() == ()
