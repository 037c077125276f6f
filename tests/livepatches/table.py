# SPDX-License-Identifier: GPL-2.0-or-later
"""The test livepatches.  A row is all that a new one takes, as long as it replaces functions that replacements/ has.

What a row says is what a reader of the built module must find, so the tests of the reader compare with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from klpd.model import VMLINUX, Callback, Format, Function, Needed, Object, State

TARGET: Final = "klp_test_target"
"""The module that some livepatches patch (klp_test_target.c)."""

CMDLINE: Final = Object(VMLINUX, (Function("cmdline_proc_show"),))
"""`cat /proc/cmdline` says "livepatch: NAME"."""
VERSION: Final = Object(VMLINUX, (Function("version_proc_show"),))
"""`cat /proc/version` says "livepatch: NAME"."""
SHOWN: Final = Object(TARGET, (Function("klp_test_show"),))
"""`cat /proc/klp_test_target/show` says "livepatch: NAME"."""
HELD: Final = Object(TARGET, (Function("klp_test_wait"),))
"""The function that /proc/klp_test_target/hold lets a task sleep in."""

NEEDED: Final = Needed(VMLINUX, VMLINUX, "klp_no_such_symbol")
"""A symbol that no kernel has."""

EVERY_CALLBACK: Final = tuple(Callback)


@dataclass(frozen=True, slots=True)
class Row:
    """A livepatch made from livepatch.c.in.  `about` becomes its description, `declared` its tags klpd_state.

    `pre_patch_result` is what its pre_patch callback returns; what is `for_other_kernel` no kernel takes.
    `needs` is a symbol that a livepatch relocation is made to need.
    """

    name: str
    about: str
    states: tuple[State, ...] = ()
    objects: tuple[Object, ...] = (CMDLINE,)
    replace: bool = True
    version: str | None = None
    pre_patch_result: str = "0"
    for_other_kernel: bool = False
    needs: Needed | None = None
    declared: tuple[str, ...] = ()


def _states(*pairs: tuple[int, int]) -> tuple[State, ...]:
    return tuple(State(*pair) for pair in pairs)


def _vmlinux(function: str, sympos: int = 0) -> Object:
    return Object(VMLINUX, (Function(function, sympos),))


ROWS: Final = (
    # One family of cumulative livepatches: each may follow those above it, and none may follow those below it.
    Row("klp_cmdline_v1", "state 0x1001, version 1", _states((0x1001, 1)), version="1"),
    Row("klp_cmdline_v2", "state 0x1001, version 2", _states((0x1001, 2)), version="2"),
    Row("klp_cmdline_v3", "state 0x1001, version 3", _states((0x1001, 3)), version="3"),
    Row("klp_cmdline_v4", "several states", _states((0x1001, 3), (0x1002, 1), (0x1004, 7)), version="4"),
    # Cumulative ones beside that family: they drop state 0x1001.
    Row("klp_other", "cumulative, of another family", _states((0x1002, 1))),
    Row("klp_stateless", "cumulative, without states"),
    # Those that leave the others in place.
    Row("klp_add", "an addition with a state", _states((0x1003, 1)), (VERSION,), replace=False),
    Row("klp_add_v2", "an addition with a higher state", _states((0x1003, 2)), (VERSION,), replace=False),
    Row("klp_add_stateless", "an addition without states", (), (VERSION,), replace=False),
    Row("klp_sticky", "an addition with a state to keep", _states((0x2001, 1)), (VERSION,), replace=False),
    Row("klp_cmdline_sticky", "cumulative, with a state to keep", _states((0x1001, 3), (0x2001, 1))),
    # Callbacks.
    Row(
        "klp_callbacks",
        "every callback, on two objects",
        _states((0x1005, 1)),
        (Object(VMLINUX, CMDLINE.functions, EVERY_CALLBACK), Object(TARGET, SHOWN.functions, EVERY_CALLBACK)),
    ),
    Row(
        "klp_callbacks_some",
        "two callbacks",
        _states((0x1005, 2)),
        (Object(VMLINUX, CMDLINE.functions, (Callback.PRE_PATCH, Callback.POST_UNPATCH)),),
    ),
    Row(
        "klp_fails",
        "a pre_patch callback that fails",
        _states((0x1006, 1)),
        (Object(VMLINUX, CMDLINE.functions, EVERY_CALLBACK),),
        pre_patch_result="-ENODEV",
    ),
    Row(
        "klp_slow",
        "a pre_patch callback that holds klp_mutex for three seconds",
        (),
        (Object(VMLINUX, VERSION.functions, (Callback.PRE_PATCH,)),),
        replace=False,
        pre_patch_result="schedule_timeout_uninterruptible(3 * HZ)",
    ),
    Row(
        "klp_sticky_fails",
        "a state to keep, and a pre_patch callback that fails after three seconds",
        _states((0x2001, 1)),
        (Object(VMLINUX, CMDLINE.functions, (Callback.PRE_PATCH,)),),
        replace=False,
        pre_patch_result="schedule_timeout_uninterruptible(3 * HZ), -ENODEV",
    ),
    # A module that is patched once it comes.
    Row("klp_target", "patches a module", _states((0x3001, 1)), (SHOWN,), replace=False),
    # Transitions that last as long as a test holds a task (see klp_test_target.c).
    Row("klp_stuck", "patches the function that tasks are held in", _states((0x3002, 1)), (HELD,), replace=False),
    Row("klp_cmdline_stuck", "cumulative, and patches that, too", _states((0x1001, 3)), (CMDLINE, HELD)),
    # Those whose states are declared in their modinfo.
    Row(
        "klp_declared",
        "declares two states that it does not carry",
        (),
        (VERSION,),
        replace=False,
        declared=("0x2003:2:sticky,restores", "0x2004:1"),
    ),
    Row("klp_declares_none", "declares that it has no states", replace=False, declared=("none",)),
    # Odd ones.
    Row(
        "klp_functions",
        "several functions, one given by its position",
        (),
        (
            Object(VMLINUX, (Function("cmdline_proc_show", sympos=1), Function("version_proc_show"))),
            Object(TARGET, (Function("klp_test_show"), Function("klp_test_wait", sympos=1))),
        ),
    ),
    # Those that the kernel refuses for what it has not, or too often; and one that it takes, though it changes nothing.
    Row("klp_no_function", "replaces a function that there is not", (), (_vmlinux("klp_no_such_function"),)),
    Row("klp_ambiguous", "replaces one function of several, and not which", (), (_vmlinux("type_show"),)),
    Row("klp_no_position", "replaces the second of one function", (), (_vmlinux("cmdline_proc_show", 2),)),
    Row(
        "klp_target_lacks",
        "replaces a function that a module does not have",
        (),
        (Object(TARGET, (Function("klp_no_such_function"),)),),
        replace=False,
    ),
    Row("klp_needs", "has a relocation to a symbol that there is not", needs=NEEDED),
    Row(
        "klp_misnamed",
        "an object that is named vmlinux",
        (),
        (Object(VMLINUX, CMDLINE.functions, misnamed=True),),
        replace=False,
    ),
    Row("klp_other_kernel", "for another kernel", _states((0x1001, 3)), for_other_kernel=True),
)

TABLES: Final = (
    Object(
        VMLINUX,
        (Function("cmdline_proc_show"), Function("version_proc_show", sympos=1)),
        (Callback.PRE_PATCH, Callback.POST_UNPATCH),
    ),
    Object(TARGET, SHOWN.functions, (Callback.POST_PATCH,)),
)
"""What those of BY_FORMAT patch."""

BY_FORMAT: Final = {"klp_kpatch_build": Format.KPATCH_BUILD, "klp_klp_build": Format.KLP_BUILD}
"""Livepatches in the formats of build systems, with a C file of their own.  They replace, and carry no states."""

SPECIAL: Final = {
    TARGET: "no livepatch: the module that livepatches patch",
    "klp_ordinary": "no livepatch",
    "klp_test_kprobe": "no livepatch: a kprobe with a post_handler on cmdline_proc_show",
    "klp_allocated": "a livepatch that fills its klp_patch at run time, so that its file tells nothing of it",
    "klp_changes": "a livepatch that is not what its file says, nor always the same",
    "klp_kpatch_build": "a livepatch in the format of kpatch-build",
    "klp_klp_build": "a livepatch in the format of klp-build",
}
"""Modules with a C file of their own."""
