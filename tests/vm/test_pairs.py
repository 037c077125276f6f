# SPDX-License-Identifier: GPL-2.0-or-later
"""Every livepatch after every other, and on two stacked ones: klpd says what the bare kernel does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.vm.livepatches import ALLOW_ALL, put_livepatches, set_policy
from tests.vm.marks import extended

if TYPE_CHECKING:
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
STACKS: Final = (*((each,) for each in NAMES), ("klp_add", "klp_sticky"), ("klp_cmdline_v2", "klp_add"))
TOOL: Final = Path(__file__).parent / "in_guest" / "pairs.py"
_SCRIPT: Final = "/root/pairs.py"
_LONG: Final = 600


def outcomes(host: Host, how: str, stack: tuple[str, ...]) -> dict[str, str]:
    """How each livepatch ends that is loaded onto the stack."""
    put_livepatches(host, *NAMES)
    host.put(TOOL, _SCRIPT)
    told = host.run(["python3", "-I", _SCRIPT, how, " ".join(stack), *NAMES], check=True, timeout=_LONG).stdout
    ends = json.loads(told)
    assert isinstance(ends, dict)
    return ends


@pytest.mark.parametrize("stack", STACKS, ids=" and ".join)
def test_klpd_allows_what_the_bare_kernel_takes_and_leaves_the_same_stack(
    host: Host, bare_host: Host, stack: tuple[str, ...]
) -> None:
    bare = outcomes(bare_host, "bare", stack)
    assert {end.partition(":")[0] for end in bare.values()} <= {"ok", "EINVAL"}
    set_policy(host, ALLOW_ALL + 'unknown-states = "allow"\n')
    assert outcomes(host, "klpd", stack) == {
        name: end.replace("ok:", "allow done:").replace("EINVAL:", "deny failed:") for name, end in bare.items()
    }
