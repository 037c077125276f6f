# SPDX-License-Identifier: GPL-2.0-or-later
"""A polkit for test_authority.py.  What it says depends on the action.  Prints "ready" when it is there.

org.klpd1.apply is thought about until that is withdrawn, org.klpd1.disable ends with an error, as for a caller who is
gone, and org.klpd1.revert is allowed.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from klpd.daemon.bus import Bus
from klpd.daemon.loop import Loop
from klpd.errors import KlpdError

if TYPE_CHECKING:
    from klpd.daemon.call import Call

POLKIT: Final = """
<node>
  <interface name="org.freedesktop.PolicyKit1.Authority">
    <method name="CheckAuthorization">
      <arg type="(sa{sv})" direction="in"/> <arg type="s" direction="in"/> <arg type="a{ss}" direction="in"/>
      <arg type="u" direction="in"/> <arg type="s" direction="in"/> <arg type="(bba{ss})" direction="out"/>
    </method>
    <method name="CancelCheckAuthorization"><arg type="s" direction="in"/></method>
  </interface>
</node>
"""
GONE: Final = (
    "Cannot determine user of subject: GDBus.Error:org.freedesktop.DBus.Error.NameHasNoOwner: "
    'Could not get UID of name ":1.7": no such name'
)
FAULTY: Final = "GDBus.Error:org.freedesktop.PolicyKit1.Error.Failed: the agent said nonsense"


class Polkit:
    def __init__(self) -> None:
        self.asked: dict[str, Future[object]] = {}

    def check(self, call: Call) -> object:
        action, number = call.text(1), call.text(4)
        match action:
            case "org.klpd1.revert":
                return ((True, False, {}),)
            case "org.klpd1.disable":
                raise KlpdError(GONE)
            case "org.klpd1.reload":
                raise KlpdError(FAULTY)
            case _:
                self.asked[number] = Future()
                return self.asked[number]

    def cancel(self, call: Call) -> None:
        self.asked.pop(call.text(0)).set_exception(KlpdError("canceled"))


if __name__ == "__main__":
    loop = Loop()
    bus = Bus(loop)
    polkit = Polkit()
    methods = {"CheckAuthorization": polkit.check, "CancelCheckAuthorization": polkit.cancel}
    bus.publish("/org/freedesktop/PolicyKit1/Authority", POLKIT, methods, dict)
    bus.serve("org.freedesktop.PolicyKit1", tried=lambda: print("ready", flush=True), taken=loop.quit)
    loop.run()
