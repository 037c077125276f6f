# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own selftests of livepatching as klpd's guest: klpd disturbs none, and knows what they document.

They compare the kernel log line by line, so that nothing may be in it that was not without klpd.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from klpd.messages import MessageId
from tests.vm.cache import Cache, default_folder
from tests.vm.livepatches import ALLOW_GAPS, journal, set_policy
from tests.vm.marks import extended
from tests.vm.selftests import put_selftests, run_script, selftests

if TYPE_CHECKING:
    from tests.vm.host import Host
    from tests.vm.selftests import Outcome

pytestmark = extended

ALLOW_ALL: Final = ALLOW_GAPS + 'unknown-states = "allow"\nftrace-off = "allow"\n'
ALLOW_ALL_IN_AUDIT: Final = ALLOW_ALL + 'mode = "audit"\n'
BY_NAME: Final = """
[[livepatch]]
match = { name = "test_klp_state*" }
verdict = "allow"
"""

STATES: Final = "test-state.sh"
INCOMPATIBLE: Final = "incompatible cumulative livepatches"
"""The test in it that has the kernel refuse test_klp_state, which has an older version of the state, after _state2."""
REFUSED_BY_THE_KERNEL: Final = "Livepatch patch (test_klp_state) is not compatible with the already installed"


@pytest.fixture
def scripts(host: Host) -> list[str]:
    """The names of the scripts, which are in the host then."""
    tests = selftests(Cache(default_folder()))
    put_selftests(host, tests)
    return sorted(path.name for path in tests.scripts.glob("test-*.sh"))


def run_scripts(host: Host, names: list[str]) -> dict[str, Outcome]:
    return {name: run_script(host, name) for name in names}


def test_under_klpd_each_ends_as_without_it(host: Host, bare_host: Host, scripts: list[str]) -> None:
    put_selftests(bare_host, selftests(Cache(default_folder())))
    set_policy(host, ALLOW_ALL)
    with ThreadPoolExecutor() as both:
        without = both.submit(run_scripts, bare_host, scripts)
        # klpd refuses what the kernel would, and says so with another error, unless it only looks on.
        under_klpd = run_scripts(host, [name for name in scripts if name != STATES])
        set_policy(host, ALLOW_ALL_IN_AUDIT)
        under_klpd[STATES] = run_script(host, STATES)
    set_policy(host, ALLOW_ALL)

    assert under_klpd == without.result()
    assert sum(len(each.tests) for each in under_klpd.values()) >= 22
    assert {result for each in under_klpd.values() for _, result in each.tests} == {"ok"}
    defences = json.loads(host.run("klpctl status --json", check=True).stdout)["defences"]
    assert {each["state"] for each in defences} == {"up"}
    # test-ftrace.sh switches off what the guard works by, which is a reason for an alert, and on again.
    alerts = host.run("journalctl --unit klpd --priority err --output json --output-fields MESSAGE_ID").stdout
    told = {json.loads(line)["MESSAGE_ID"] for line in alerts.splitlines()}
    assert told <= {MessageId.SWITCH_ALLOWED, MessageId.DEFENCE_CHANGED}


@pytest.mark.usefixtures("scripts")
def test_klpd_refuses_what_they_document_as_incompatible_before_the_kernel_does(host: Host) -> None:
    set_policy(host, BY_NAME)

    outcome = run_script(host, STATES)

    *compatible, last = outcome.tests
    assert [result for _, result in compatible] == ["ok"] * 3
    assert last == (INCOMPATIBLE, "not ok")
    differences = re.findall(r"^[+-](?!\+\+|--).*", outcome.said, re.MULTILINE)
    assert differences == [
        f"-livepatch: {REFUSED_BY_THE_KERNEL} livepatches.",
        "-modprobe: ERROR: could not insert 'test_klp_state': Invalid argument",
        "+modprobe: ERROR: could not insert 'test_klp_state': Operation not permitted",
    ]
    assert REFUSED_BY_THE_KERNEL not in host.run("dmesg", check=True).stdout
    (veto,) = journal(host, MessageId.LOAD_VETOED)
    assert veto["KLPD_LIVEPATCH"] == "test_klp_state"
    assert "state 0x1 version 1; test_klp_state2 has installed version 2" in veto["MESSAGE"]
    assert "klp_is_patch_compatible" in veto["KLPD_RULE"]
