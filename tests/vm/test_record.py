# SPDX-License-Identifier: GPL-2.0-or-later
"""The record on a real system: whatever comes, each refusal has its entry or is counted, and klpd goes on meanwhile."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from klpd.messages import MessageId
from tests.vm.livepatches import journal, put_livepatches
from tests.vm.marks import extended
from tests.vm.test_hold import klpd

if TYPE_CHECKING:
    from tests.vm.host import Host

LOADS: Final = """
from klpd.kernel.guard_selftest import impossible_livepatch, load_from_buffer
same = impossible_livepatch("klpd_same")
for number in range(5000):
    load_from_buffer(same)
    load_from_buffer(impossible_livepatch(f"klpd_{number}"))
"""
LOST: Final = re.compile(r"(\d+) journal entries of klpd were lost")


@extended
def test_of_ten_thousand_refusals_each_is_told_or_counted(host: Host) -> None:
    before = klpd(host)
    host.write("/root/loads.py", LOADS.encode())
    host.run("python3 -I loads.py", check=True, timeout=300)
    assert host.run("klpctl status", timeout=20).returncode == 0
    host.run("systemctl restart klpd", check=True)  # it tells what it has counted
    assert before in host.run("journalctl -u klpd -o json --output-fields _PID").stdout
    told = len([each for each in journal(host, MessageId.LOAD_VETOED) if "klpd_" in each["KLPD_LIVEPATCH"]])
    counted = sum(
        int(each["KLPD_COUNT"]) for kind in (MessageId.WITHHELD, MessageId.EVENTS_LOST) for each in journal(host, kind)
    )
    counted += sum(map(int, LOST.findall(host.run("journalctl -t klpd").stdout)))
    assert told + counted == 10_000
    assert told > 100, "the first of them are told, and not counted only"


@extended
def test_while_journald_is_stopped_nobody_waits_and_its_entries_come_later(host: Host) -> None:
    put_livepatches(host, "klp_add")
    host.run("systemctl kill --signal STOP systemd-journald", check=True)
    for _load in range(20):
        assert host.run("insmod klp_add.ko", timeout=20).returncode != 0
    assert host.run("klpctl status", timeout=20).returncode == 0
    host.run("systemctl kill --signal CONT systemd-journald", check=True)
    host.run("for _ in 1 2 3 4 5 6 7 8; do sleep 5; klpctl reload; done", timeout=120)
    assert len([each for each in journal(host, MessageId.LOAD_VETOED) if each["KLPD_LIVEPATCH"] == "klp_add"]) == 20
