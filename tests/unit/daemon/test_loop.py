# SPDX-License-Identifier: GPL-2.0-or-later
"""The main loop: what it is asked to do later, it does once, or not at all."""

from __future__ import annotations

import time

from klpd.daemon.loop import Loop


def test_what_is_put_off_is_done_once_and_what_need_not_be_done_never() -> None:
    loop, done = Loop(), list[str]()
    need_not = loop.after(0.01, lambda: done.append("canceled"))
    loop.after(0.02, lambda: done.append("done"))
    loop.after(0.2, loop.quit)
    need_not()
    loop.run()
    assert done == ["done"]


def test_what_is_done_cannot_be_canceled_any_more() -> None:
    loop, done = Loop(), list[str]()

    def do() -> None:
        done.append("done")
        need_not()

    need_not = loop.after(0.01, do)
    loop.after(0.05, loop.quit)
    loop.run()
    need_not()
    assert done == ["done"]


def test_what_is_done_every_so_often_does_not_wait_until_many_callers_were_served() -> None:
    loop, done = Loop(), list[str]()

    def serve() -> None:
        time.sleep(0.005)
        done.append("served")

    for _each in range(100):
        loop.call_soon(serve)
    loop.every(0.01, lambda: done.append("tick"))
    loop.call_soon(loop.quit)
    loop.run()
    assert done.count("served") == 100
    assert "tick" in done[:40]
