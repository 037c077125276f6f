# SPDX-License-Identifier: GPL-2.0-or-later
"""org.klpd1(5) names every member of the interfaces, with its types, and no other; the bus lets everybody call them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from gi.repository import Gio

from klpd.daemon.authority import PolkitAction
from klpd.daemon.bus import read_interface
from klpd.daemon.course import CanceledError
from klpd.errors import KlpdError
from klpd.plain import PlainError
from klpd.report import JOB_INTERFACE, LIVEPATCH_INTERFACE, MANAGER_INTERFACE

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT: Final = Path(__file__).resolve().parents[3]
PAGE: Final = (PROJECT / "docs" / "org.klpd1.5.md").read_text()
SECTIONS: Final = {MANAGER_INTERFACE: "THE MANAGER", LIVEPATCH_INTERFACE: "LIVEPATCHES", JOB_INTERFACE: "JOBS"}

BESIDE: Final = (CanceledError, PlainError)
"""The errors that are not in klpd/errors.py."""


def section(title: str) -> str:
    return PAGE.split(f"\n# {title}\n")[1].split("\n# ")[0]


def members(interface: str) -> Iterator[str]:
    """Each member as the page has it: its name, and its types."""
    (described,) = Gio.DBusNodeInfo.new_for_xml(read_interface(interface)).interfaces
    for method in described.methods:
        yield f"**{method.name}**({_arguments(method.in_args)})"
    for signal in described.signals:
        yield f"**{signal.name}**({_arguments(signal.args)})"
    for each in described.properties:
        yield f"**{each.name}** ({each.signature})"


def _arguments(arguments: list[Gio.DBusArgInfo]) -> str:
    return ", ".join(f"{each.signature} *{each.name}*" for each in arguments)


def errors(of: type[KlpdError] = KlpdError) -> Iterator[str]:
    yield of.dbus_name
    for each in of.__subclasses__():
        yield from errors(each)


@pytest.mark.parametrize("interface", SECTIONS)
def test_every_member_is_in_the_manual_page(interface: str) -> None:
    shown = set(re.findall(r"\*\*[A-Z]\w+\*\* ?\((?:[^()]|\([^()]*\))*\)", section(SECTIONS[interface])))
    assert shown == set(members(interface))


def test_so_is_every_error_and_every_polkit_action() -> None:
    shown = set(re.findall(r"\*\*(\w+)\*\*(?=[,\n])", section("ERRORS")))
    named = {each.rpartition(".")[2] for each in {*errors(), *(each.dbus_name for each in BESIDE)}}
    assert shown == named
    assert set(re.findall(r"\*\*(org\.klpd1\.\w+)\*\*", section("AUTHORIZATION"))) == set(PolkitAction)


@pytest.mark.parametrize("interface", [*SECTIONS, "org.freedesktop.DBus.ObjectManager"])
def test_the_bus_lets_everybody_call_every_interface(interface: str) -> None:
    policy = (PROJECT / "systemd" / "org.klpd1.conf").read_text()
    assert f'<allow send_destination="org.klpd1" send_interface="{interface}"/>' in policy
