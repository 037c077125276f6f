# SPDX-License-Identifier: GPL-2.0-or-later
"""A small service on klpd.daemon.bus, for test_bus.py to call.  Prints "ready" when it has its name."""

from __future__ import annotations

import os
import resource
import sys
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from klpd.daemon.bus import Bus, to_dictionary
from klpd.daemon.loop import Loop
from klpd.errors import VetoedError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from klpd.daemon.call import Call

XML = """
<node>
  <interface name="org.klpd1.Test">
    <method name="Echo"><arg type="s" direction="in"/><arg type="s" direction="out"/></method>
    <method name="Slow"><arg type="s" direction="out"/></method>
    <method name="Nested"><arg type="a{sv}" direction="out"/></method>
    <method name="Named"><arg type="a{sv}" direction="out"/></method>
    <method name="Veto"/>
    <method name="Crash"/>
    <method name="CrashLater"/>
    <method name="Content"><arg type="h" direction="in"/><arg type="s" direction="out"/></method>
    <method name="Contents"><arg type="a{sv}" direction="in"/><arg type="a(ss)" direction="out"/></method>
    <method name="Files"><arg type="a(hs)" direction="in"/><arg type="a(ss)" direction="out"/></method>
    <method name="Livepatch"><arg type="s" direction="in"/><arg type="s" direction="out"/></method>
    <method name="Refuse"><arg type="s" direction="in"/></method>
    <method name="Descriptors"><arg type="u" direction="out"/></method>
    <method name="Memory"><arg type="t" direction="out"/></method>
    <method name="Announce"/>
    <signal name="Announced"><arg type="s"/></signal>
    <property name="Number" type="u" access="read"/>
  </interface>
</node>
"""


def later(work: object, seconds: float, *, fail: bool = False) -> Future[object]:
    future: Future[object] = Future()
    finish = (lambda: future.set_exception(ZeroDivisionError())) if fail else (lambda: future.set_result(work))
    threading.Timer(seconds, finish).start()
    return future


def veto(_call: Call) -> None:
    raise VetoedError("the policy does not let it: 50-site.toml:3")


def refuse(call: Call) -> None:
    raise VetoedError(call.text(0) * 10)


def crash(_call: Call) -> None:
    raise ZeroDivisionError("secret")


def content(call: Call) -> str:
    with call.file(0) as file:
        return file.read().decode()


ENDED_BY_ITSELF = 3
"""The exit status where somebody else has the name."""


def contents(files: Iterable[tuple[BinaryIO, str]]) -> list[tuple[str, str]]:
    found = []
    for file, name in files:
        with file:
            found.append((name, file.read().decode()))
    return found


def main() -> None:
    loop = Loop()
    bus = Bus(loop)
    published = bus.publish(
        "/org/klpd1/test",
        XML,
        {
            "Echo": lambda call: call.text(0),
            "Slow": lambda _call: later("done", 0.5),
            "Nested": lambda _call: to_dictionary(
                {"list": [1, {"deep": True}], "big": 1 << 63, "less": -1, "part": 0.5}
            ),
            "Named": lambda _call: to_dictionary({"name": os.fsdecode(b"klp_\xff")}),
            "Veto": veto,
            "Crash": crash,
            "CrashLater": lambda _call: later(None, 0.0, fail=True),
            "Content": content,
            "Contents": lambda call: contents(call.files_under(0, "files")),
            "Files": lambda call: contents(call.files(0)),
            "Livepatch": lambda call: call.livepatch(0),
            "Refuse": refuse,
            "Descriptors": lambda _call: len(os.listdir("/proc/self/fd")),
            "Memory": lambda _call: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "Announce": lambda _call: published.emit("Announced", "news"),
        },
        lambda: {"Number": 7},
    )
    bus.serve("org.klpd1.Test", tried=lambda: print("ready", flush=True), taken=loop.quit)
    loop.run()
    sys.exit(ENDED_BY_ITSELF)


if __name__ == "__main__":
    main()
