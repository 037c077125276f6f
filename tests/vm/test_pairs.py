# SPDX-License-Identifier: GPL-2.0-or-later
"""Every livepatch after every other, and on two stacked ones: klpd says what the bare kernel does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.vm.boot import Options
from tests.vm.livepatches import ALLOW_ALL, put_livepatches, set_policy
from tests.vm.marks import extended

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vm.host import Host

pytestmark = extended

NAMES: Final = (
    "klp_cmdline_v1",
    "klp_cmdline_v2",
    "klp_cmdline_v4",
    "klp_other",
    "klp_stateless",
    "klp_add",
    "klp_add_v2",
    "klp_add_stateless",
    "klp_sticky",
    "klp_cmdline_sticky",
    "klp_callbacks",
    "klp_callbacks_some",
)
"""States up, down, dropped and new; cumulative and not."""
STACKED: Final = (("klp_add", "klp_sticky"), ("klp_cmdline_v2", "klp_add"))
TOOL: Final = Path(__file__).parent / "in_guest" / "pairs.py"
_SCRIPT: Final = "/root/pairs.py"
_LONG: Final = 1200


def outcomes(host: Host, how: str) -> dict[tuple[str, str], str]:
    """By stack and livepatch."""
    put_livepatches(host, *NAMES)
    host.put(TOOL, _SCRIPT)
    stacks = json.dumps([[each] for each in NAMES] + [list(each) for each in STACKED])
    told = host.run(["python3", "-I", _SCRIPT, how, stacks, *NAMES], check=True, timeout=_LONG).stdout
    return {(stack, name): end for stack, ends in json.loads(told).items() for name, end in ends.items()}


@pytest.fixture
def bare(boot: Callable[[Options], Host]) -> dict[tuple[str, str], str]:
    return outcomes(boot(Options(klpd=False)), "bare")


def test_klpd_allows_what_the_bare_kernel_takes_and_leaves_the_same_stack(
    host: Host, bare: dict[tuple[str, str], str]
) -> None:
    set_policy(host, ALLOW_ALL + 'unknown-states = "allow"\n')
    expected = {
        pair: end.replace("ok:", "allow done:").replace("EINVAL:", "deny failed:") for pair, end in bare.items()
    }
    assert outcomes(host, "klpd") == expected
    ends = {end.partition(":")[0] for end in bare.values()}
    assert ends == {"ok", "EINVAL"}
