# SPDX-License-Identifier: GPL-2.0-or-later
"""The hold: whoever opens a livepatch's file waits until its verdict is there, and then goes on, whatever it is.

Where the kernel has no guard, readers are held as well, and one that is loading a livepatch may be refused
(klpd.daemon.fallback).

The hold's own thread opens no path, judges nothing and waits for nobody: it answers what is overdue.  Another takes the
events, and hands them to workers (klpd.daemon.intake).  A worker reads through the event's own descriptor, so that it
raises no event itself.  Whose event is looked at next is for klpd.daemon.turns to say; the same bytes are judged once
(klpd.daemon.judgements).  Files that turn out to be no livepatches are ignored until they change, and reach klpd no
more.
"""

from __future__ import annotations

import logging
import os
import resource
import select
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, Protocol

from klpd.daemon.directories import Directories
from klpd.daemon.intake import Intake
from klpd.daemon.judgements import Judgements, Opened, Version
from klpd.daemon.lateness import Page
from klpd.daemon.waiting import Waiting, path_of
from klpd.daemon.workers import Workers
from klpd.errors import KernelError, ModuleFormatError
from klpd.files import read_descriptor
from klpd.kernel.fanotify import Fanotify
from klpd.kernel.loaders import user_who_waits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from klpd.daemon.fallback import FileLoad
    from klpd.daemon.judgements import Judge
    from klpd.kernel.fanotify import Held

log = logging.getLogger(__name__)

_WORKERS: Final = 6
_PAUSE: Final = 0.1
_MOMENT: Final = 0.001
"""Seconds in which a thread that has raised an event is likely to have gone to sleep."""
_SWITCH_INTERVAL: Final = 0.0005
"""Seconds that a thread of Python's which has waited for the kernel waits for one that computes (Python's own choice is
ten times that).  Each event takes some calls of the kernel, and whoever waits, waits for those of all before him."""


class Loads(Protocol):
    """Judges what is loaded from files (klpd.daemon.fallback).

    The first two raise KernelError where it cannot be seen who is loading.
    """

    def is_loading(self, tid: int) -> bool | None: ...

    def judge(self, data: bytes, file: str, tid: int) -> FileLoad | None: ...

    def answered(self, load: FileLoad) -> None: ...


class Told(Protocol):
    """Is told of openers and readers that did not wait for a verdict (klpd.daemon.record)."""

    def hold_timed_out(self, file: str, pid: int, user: int | None, *, reading: bool) -> None:
        """One went on without a verdict; `user` is None for who may load modules."""
        ...

    def hold_refused(self, error: KernelError) -> None:
        """The kernel refused one, since klpd could not have its file."""
        ...


class Hold:
    """Holds the openers of the files in some directories.  `timeout` (seconds) may change at any time.

    With `loads`, readers are held, too, and those are refused that load what is not to be loaded.  Each read(2) of a
    livepatch then costs a question.  To be made on the main thread.

    Raises KernelError where the kernel has no such thing.
    """

    def __init__(
        self,
        judge: Judge,
        told: Told,
        *,
        timeout: float,
        loads: Loads | None = None,
        declared_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._loads = loads
        self._told = told
        self.page = Page.new()
        """What tells klpd-release how the hold does."""
        self.timeout = timeout
        self.relieved: Callable[[], bool] = lambda: False
        """Whether somebody else lets those go on whom klpd keeps waiting (klpd.daemon.releasing)."""
        self._group = Fanotify(readers=loads is not None)
        self._directories = Directories(self._group, declared_changed)
        self._waiting = Waiting(self._group, self.page.waits_until)
        self._judgements = Judgements(judge, self._ignore)
        self._workers: Workers[Held] = Workers(self._serve_one, _WORKERS)
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC)
        self._intake = Intake(
            self._group,
            self._accept,
            told.hold_refused,
            self._begins,
            page=self.page,
            held_for=lambda: self.timeout,
            relieved=lambda: self.relieved(),
        )
        self._thread = threading.Thread(target=self._serve, name="hold", daemon=True)
        # Each who is held has a descriptor of klpd's, which needs some for itself.
        self._most_held = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self._attentive = False
        self._stopping = False
        self._came_round = True

    @property
    def group(self) -> int:
        """The descriptor of the notification group."""
        return self._group.fileno()

    @property
    def timeout(self) -> float:
        """For how many seconds somebody is held at most."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._timeout = seconds
        self.page.holds_for(seconds)

    @property
    def directories(self) -> int:
        """How many directories are watched."""
        return len(self._directories)

    @property
    def unwatched(self) -> tuple[str, ...]:
        """Those of the directories to watch that are not, each with the reason."""
        return self._directories.unwatched

    @property
    def alive(self) -> bool:
        """Whether anybody is held at all."""
        return self._thread.is_alive() and self._intake.alive

    def watch(self, roots: Iterable[Path], done: Callable[[], None]) -> None:
        """Hold the openers of the files in these directories and all below them, and from now on of no others.

        Directories that are made, moved or mounted there later are included.  Returns at once; `done` is called, on
        another thread, when all are watched.
        """
        self._directories.watch(roots, done)

    def watch_file(self, fd: int) -> None:
        """Hold the openers of one open file, too, as long as it is there.  Raises KernelError."""
        self._group.watch_file(fd)

    def responsive(self) -> bool:
        """Whether the hold's thread has come round since this was last asked: it answers in time only if it does."""
        came_round, self._came_round = self._came_round, False
        self._wake()
        return came_round and self._intake.well

    def start(self) -> None:
        """To be called before `watch`."""
        sys.setswitchinterval(_SWITCH_INTERVAL)
        self._workers.start()
        self._thread.start()
        self._intake.start()

    def stop(self) -> None:
        """Let everyone go on and end the threads.  A worker that hangs is not waited for."""
        self._directories.stop()
        self._stopping = True
        self._wake()
        self._thread.join()

    def _wake(self) -> None:
        os.eventfd_write(self._wakeup, 1)

    def _serve(self) -> None:
        poller = select.poll()
        poller.register(self._wakeup, select.POLLIN)
        try:
            while not self._stopping:
                try:
                    self._serve_once(poller)
                    self._came_round = True
                except Exception:
                    log.exception("the hold goes on after an error")
                    time.sleep(_PAUSE)  # an error that stays is not to keep a processor busy
        finally:
            self._let_go()

    def _serve_once(self, poller: select.poll) -> None:
        pauses = (self._look_after_intake(), self._waiting.until_overdue())
        pause = min((each for each in pauses if each is not None), default=None)
        if poller.poll(None if pause is None else pause * 1000 + 1):
            os.eventfd_read(self._wakeup)
        for late, file in self._waiting.let_overdue_go():
            self._told.hold_timed_out(file, late.pid, user_who_waits(late.pid), reading=late.reading)
            if self._workers.drop(late):
                os.close(late.fd)

    def _look_after_intake(self) -> float | None:
        self._attentive = False
        pause = self._intake.look_after(time.monotonic(), self.timeout)
        self._attentive = pause is not None
        return pause

    def _begins(self) -> None:
        if not self._attentive:  # else it looks before long, and is not to be woken for each event
            self._wake()

    def _accept(self, held: Held) -> None:
        if self._is_own(held):
            self._group.allow(held)
            os.close(held.fd)
            return
        self._waiting.add(held, time.monotonic() + self.timeout)
        user = user_who_waits(held.pid)
        if user is not None and len(self._waiting) > self._most_held:
            self._told.hold_timed_out(path_of(held), held.pid, user, reading=held.reading)
            self._answer(held)
            return
        self._workers.add(held, user)

    def _serve_one(self, held: Held) -> None:
        try:
            if held.reading and self._loads is not None:
                self._judge_reader(held, self._loads)
            else:
                self._judge_opener(held)
        except ModuleFormatError as error:
            log.info("not judged: %s", error)
        except KernelError as error:
            log.warning("not judged: %s", error)
        except Exception:
            log.exception("the file that process %d opens could not be judged", held.pid)

    def _judge_opener(self, held: Held) -> None:
        if held not in self._waiting:  # it was overdue
            os.close(held.fd)
            return
        self._judgements.settle(
            Opened(held.fd, path_of(held), held.pid),
            done=lambda: self._answer(held),
            again=lambda: self._workers.add(held, user_who_waits(held.pid)),
        )

    def _answer(self, held: Held) -> None:
        self._waiting.answer(held)
        os.close(held.fd)

    def _judge_reader(self, held: Held, loads: Loads) -> None:
        load = None
        try:
            if self._is_loading(held, loads):
                load = self._look(held, loads)
        finally:
            answered = self._waiting.answer(held, refuse=load is not None and load.refused)
            os.close(held.fd)
        if answered and load is not None:
            loads.answered(load)

    def _is_loading(self, held: Held, loads: Loads) -> bool:
        while held in self._waiting:
            loading = loads.is_loading(held.pid)
            if loading is not None:
                return loading
            time.sleep(_MOMENT)
        return False

    def _look(self, held: Held, loads: Loads) -> FileLoad | None:
        """What is loaded.  Read by each load: as long as it reads, the kernel keeps writers out, and only then."""
        version, file = Version.of(held.fd), path_of(held)
        load = loads.judge(read_descriptor(held.fd, file), file, held.pid)
        if load is None:
            self._ignore(Opened(held.fd, file, held.pid), version)
        return load

    def _ignore(self, opened: Opened, version: Version) -> None:
        try:
            self._group.ignore(opened.fd)
            if Version.of(opened.fd) != version:
                self._group.heed(opened.fd)
        except KernelError as error:
            # It costs a look at each open, and is no reason to log more than that.
            log.debug("%s will be looked at again: %s", opened.file, error)

    def _is_own(self, held: Held) -> bool:
        """Whether it is klpd that opens or reads a file."""
        if self._loads is None:
            return held.pid == os.getpid()
        return os.path.exists(f"/proc/self/task/{held.pid}")  # of a group that holds readers, it is the thread

    def _let_go(self) -> None:
        if not self._intake.stop(_PAUSE * 10):
            log.warning("an event of the kernel's is not had yet; who waits goes on when klpd has ended")
        try:
            # klpd-release has the group, too, and may be slow to let go of it.
            self._group.flush()
        except KernelError as error:
            log.warning("who opens module files may be held until klpd has ended: %s", error)
        self._waiting.close()
        self._workers.stop()
