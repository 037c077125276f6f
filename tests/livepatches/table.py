# SPDX-License-Identifier: GPL-2.0-or-later
"""The test livepatches.  A row makes a new one; src/livepatch.c is compiled once for each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from klpd.model import Callback, State

CMDLINE: Final = ("vmlinux", "cmdline_proc_show")
"""Shown by /proc/cmdline."""
VERSION: Final = ("vmlinux", "version_proc_show")
"""Shown by /proc/version."""
TARGET_SHOW: Final = ("klp_test_target", "klp_test_show")
"""Shown by /proc/klp_test_target."""
TARGET_WAIT: Final = ("klp_test_target", "klp_test_wait")
"""A kernel thread sleeps in it while /sys/module/klp_test_target/parameters/hold is Y."""

CONSOLE: Final = 0x1001
NETWORK: Final = 0x1002
TIMER: Final = 0x1003
STICKY: Final = 0x2001


@dataclass(frozen=True, slots=True)
class Row:
    """One livepatch.  `functions` are pairs of object and function; `pre_patch` is what that callback returns."""

    name: str
    functions: tuple[tuple[str, str], ...]
    replace: bool = True
    states: tuple[State, ...] = ()
    callbacks: tuple[Callback, ...] = ()
    pre_patch: int = 0


LIVEPATCHES: Final = (
    # One state, going up: the family of the demo.
    Row("klp_console_v1", (CMDLINE,), states=(State(CONSOLE, 1),)),
    Row("klp_console_v2", (CMDLINE,), states=(State(CONSOLE, 2),)),
    Row("klp_console_v3", (CMDLINE,), states=(State(CONSOLE, 3),)),
    # Cumulative without states: allowed over nothing that has some.
    Row("klp_stateless", (CMDLINE,)),
    # Another state, so that it drops 0x1001.
    Row("klp_network_v1", (CMDLINE,), states=(State(NETWORK, 1),)),
    Row("klp_several", (CMDLINE, VERSION), states=(State(CONSOLE, 2), State(NETWORK, 1), State((1 << 64) - 1, 7))),
    # Beside others instead of in their place.
    Row("klp_timer_v1", (VERSION,), replace=False, states=(State(TIMER, 1),)),
    Row("klp_timer_v2", (VERSION,), replace=False, states=(State(TIMER, 2),)),
    Row("klp_extra", (VERSION,), replace=False),
    Row("klp_sticky", (VERSION,), replace=False, states=(State(STICKY, 1),)),
    Row("klp_callbacks", (CMDLINE,), replace=False, callbacks=tuple(Callback)),
    Row("klp_half_callbacks", (CMDLINE,), replace=False, callbacks=(Callback.PRE_PATCH, Callback.POST_UNPATCH)),
    Row("klp_pre_patch_fails", (CMDLINE,), replace=False, callbacks=(Callback.PRE_PATCH,), pre_patch=-19),
    # Stuck while the target's thread sleeps: in the old function when patching, in the new one when unpatching.
    Row("klp_stuck", (TARGET_WAIT,), replace=False, states=(State(TIMER, 1),)),
    # Its object may come later than the livepatch.
    Row("klp_later", (TARGET_SHOW,), replace=False),
    Row("klp_two_objects", (CMDLINE, TARGET_SHOW), replace=False, callbacks=(Callback.POST_PATCH,)),
)

MODULES: Final = ("klp_test_target", "klp_test_ordinary")
"""Modules that are no livepatches."""
