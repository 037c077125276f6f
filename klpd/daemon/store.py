# SPDX-License-Identifier: GPL-2.0-or-later
"""The livepatches that klpd remembers, by digest: the way back needs the bytes of what was in force before.

klpd.remembered tells how they lie in /var/lib/klpd, and reads them.  /var/lib/klpd/history tells which livepatches were
in force one after another since the kernel booted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from klpd.daemon.state_files import AtOnce, boot_id, read_file, replace_file, set_aside
from klpd.errors import KlpdError
from klpd.layout import known_layout
from klpd.model import same_name
from klpd.module.loaded import as_loaded
from klpd.plain import to_plain
from klpd.remembered import DECLARED, LIVEPATCHES, STATE_DIRECTORY, read_remembered, with_remembered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from klpd.daemon.state_files import Writing
    from klpd.layout import Layouts
    from klpd.model import Declaration, Installed, Livepatch, Stack

log = logging.getLogger(__name__)

_MOST_MOMENTS: Final = 64
_SPARE: Final = 16
"""How many livepatches beside those of this boot's history are kept."""
_MOST_DECLARED: Final = 4096
"""Of how many files is kept what manifests declared of them: nobody but root can make it more."""


@dataclass(frozen=True, slots=True)
class Member:
    """A livepatch that was in force; without a digest its file was never seen, and it cannot be loaded again.

    `parameters` are those that it was loaded with, if klpd did it.
    """

    name: str
    digest: str | None = None
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """The livepatches in force at one time, the oldest first."""

    members: tuple[Member, ...] = ()

    def is_like(self, other: Moment) -> bool:
        """Whether both may be the same, as far as the files of the livepatches are known."""
        return len(self.members) == len(other.members) and all(
            ours.name == theirs.name and (None in (ours.digest, theirs.digest) or ours.digest == theirs.digest)
            for ours, theirs in zip(self.members, other.members, strict=True)
        )

    def known_with(self, other: Moment) -> Moment:
        """With the digests that only the other one has, which is like it."""
        pairs = zip(self.members, other.members, strict=True)
        return Moment(tuple(replace(ours, digest=ours.digest or theirs.digest) for ours, theirs in pairs))


@dataclass(frozen=True, slots=True)
class WayBack:
    """A way back that is being taken, from the moment of that rank.

    `undoes`: it is to undo the change that led there; else it is a change like any other.
    """

    start: int
    undoes: bool


@dataclass(frozen=True, slots=True)
class LoadedWith:
    """The parameters that klpd loaded the livepatch with this digest with, the last time."""

    digest: str
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class History:
    """What was in force since the boot with this id, the present last; and the digests of what was approved.

    Each moment but the first came by a change, whoever made it.  Undoing one takes its moment away, so that what is
    undone next is the change before it; any other change adds one, also where it leads to what was there before.  What
    lies on a way back of several steps is no moment of its own.
    """

    boot_id: str
    moments: tuple[Moment, ...] = (Moment(),)
    approved: tuple[str, ...] = ()
    way_back: WayBack | None = None
    loaded_with: tuple[LoadedWith, ...] = ()

    def parameters_of(self, digest: str) -> tuple[str, ...]:
        """Those that a livepatch was last loaded with, as far as klpd did it."""
        return next((each.parameters for each in self.loaded_with if each.digest == digest), ())

    def with_loaded(self, digest: str, parameters: tuple[str, ...]) -> History:
        """With a livepatch loaded by klpd."""
        others = tuple(each for each in self.loaded_with if each.digest != digest)
        new = (LoadedWith(digest, parameters),) if parameters else ()
        return replace(self, loaded_with=(*others, *new)[-_MOST_MOMENTS:])

    def then(self, moment: Moment) -> History:
        """With `moment` as the present.  That the file of a livepatch is known now, or is no longer, is no change."""
        if moment.is_like(self.moments[-1]):
            return self._with((*self.moments[:-1], self.moments[-1].known_with(moment)))
        way = self.way_back
        if way is None:
            return self._with((*self.moments, moment))
        former = self.moments[: way.start + 1]
        if moment.is_like(former[-1]):
            return self._with(former)
        if way.undoes and len(former) > 1 and moment.is_like(former[-2]):
            return self._with(former[:-1])
        return self._with((*former, moment))

    def set_out(self, *, undoing: bool) -> History:
        """With a way back begun."""
        return replace(self, way_back=WayBack(len(self.moments) - 1, undoing))

    def arrived(self) -> History:
        """With the way back at its end, wherever that is."""
        return replace(self, way_back=None)

    def _with(self, moments: tuple[Moment, ...]) -> History:
        dropped = max(0, len(moments) - _MOST_MOMENTS)
        way = self.way_back
        if way is not None and way.start >= len(moments):
            way = None  # what it was to undo is undone
        if way is not None and dropped:
            way = replace(way, start=max(0, way.start - dropped))
        return replace(self, moments=moments[dropped:], way_back=way)

    @property
    def before(self) -> Moment | None:
        """What was in force before the last change that has not been undone."""
        return self.moments[-2] if len(self.moments) > 1 else None

    def newest(self, name: str) -> Moment | None:
        """The last moment but the present at which the livepatch `name` was the newest."""
        return next(
            (each for each in reversed(self.moments[:-1]) if each.members and same_name(each.members[-1].name, name)),
            None,
        )


class Store:
    """Remembered livepatches and the history; safe to use from any thread.

    `layouts` are for livepatches that are read again.  `declared` is called when something else is declared of a
    remembered livepatch than was before.
    """

    def __init__(
        self,
        folder: Path = STATE_DIRECTORY,
        declared: Callable[[], object] = lambda: None,
        files: Writing | None = None,
        layouts: Layouts = known_layout,
    ) -> None:
        self._layouts = layouts
        self._files = files or AtOnce()
        self._declared_anew = declared
        self._folder = folder / LIVEPATCHES
        self._declared_folder = folder / DECLARED
        for each in (self._folder, self._declared_folder):
            if (each.exists() or each.is_symlink()) and not each.is_dir():
                set_aside(each, "it is no directory")
        self._history_file = folder / "history"
        self._lock = threading.Lock()
        self._unwritten: dict[str, bytes] = {}
        remembered = read_remembered(folder)
        self._livepatches = dict(remembered.livepatches)
        self._declarations = dict(remembered.declarations)
        self._history = self._read_history()

    @property
    def history(self) -> History:
        return self._history

    def known(self, name: str, build_id: str) -> tuple[Livepatch, ...]:
        """The livepatches that a loaded module may have come from, of those whose files were seen."""
        return tuple(each for each in self.livepatches if (each.name, each.build_id) == (name, build_id))

    def find(self, digest: str) -> Livepatch | None:
        with self._lock:
            return self._livepatches.get(digest)

    @property
    def livepatches(self) -> tuple[Livepatch, ...]:
        """All that are remembered."""
        with self._lock:
            return tuple(self._livepatches.values())

    def declared(self, digest: str) -> Declaration | None:
        """What manifests declared of the bytes with this digest; None: nothing that is remembered."""
        with self._lock:
            return self._declarations.get(digest)

    def declare(self, livepatch: Livepatch) -> None:
        """Remember what manifests declare of a livepatch, whatever becomes of it.

        It takes the place of what others declared of the same bytes before; beside that it stands while the livepatch
        is in force, which keeps what is declared of it.  A livepatch that came without any unsays nothing.
        """
        with self._lock:
            known = livepatch.digest in self._livepatches or livepatch.digest in self._declarations
            declared = self._declare(livepatch)
        if declared:
            self._files.write(f"{DECLARED}/{livepatch.digest}", partial(self._write_declared, livepatch.digest))
        if declared and known:
            self._declared_anew()

    def add(self, livepatch: Livepatch, data: bytes) -> bool:
        """Remember a livepatch, its file's bytes, and what is declared of it (as `declare` does).

        They are written in the background: an opener waits.  True if they were not remembered.
        """
        self.declare(livepatch)
        with self._lock:
            livepatch = with_remembered(livepatch, self._declarations.get(livepatch.digest))
            known = self._livepatches.get(livepatch.digest)
            if known == livepatch:
                return False
            self._livepatches[livepatch.digest] = livepatch
            if known is None:
                self._unwritten[livepatch.digest] = data
        self._files.write(f"{LIVEPATCHES}/{livepatch.digest}", partial(self._write, livepatch.digest))
        return known is None

    def _declare(self, livepatch: Livepatch) -> bool:
        """Note what is declared of a livepatch; whether that is news."""
        digest, declared = livepatch.digest, livepatch.declared
        before = self._declarations.get(digest)
        if not declared.files:
            return False
        if before is not None and any(each.digest == digest for each in self._history.moments[-1].members):
            declared += before
        if declared == before:
            return False
        self._declarations[digest] = declared
        known = self._livepatches.get(digest)
        if known is not None:
            self._livepatches[digest] = with_remembered(known, declared)
        return True

    def read(self, digest: str) -> bytes:
        """The bytes of a remembered livepatch.  Raises KlpdError where they are gone or are not the same any more."""
        with self._lock:
            unwritten = self._unwritten.get(digest)
        if unwritten is not None:
            return unwritten
        path = self._file(digest, "ko")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise KlpdError(f"cannot read the remembered livepatch {path}: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise KlpdError(f"{path} does not have the digest of its name any more; remove it")
        return data

    def observe(self, stack: Stack) -> None:
        """Note what is in force now; call it when no transition runs."""
        with self._lock:
            moment = Moment(tuple(self._member(each) for each in stack.livepatches))
            history = self._history.then(moment)
            if history != self._history:
                self._set_history(history)

    def _member(self, livepatch: Installed) -> Member:
        digest = livepatch.digest
        return Member(livepatch.name, digest, () if digest is None else self._history.parameters_of(digest))

    def set_out(self, *, undoing: bool) -> None:
        """Note that a way back begins; `undoing`: it undoes the last change, instead of making another."""
        with self._lock:
            self._set_history(self._history.set_out(undoing=undoing))

    def arrived(self) -> None:
        """Note that it is over."""
        with self._lock:
            if self._history.way_back is not None:
                self._set_history(self._history.arrived())

    def as_loaded(self, digest: str, parameters: tuple[str, ...]) -> Livepatch | None:
        """A remembered livepatch as it is when klpd loads it with these parameters.

        Raises KlpdError where its bytes are gone.
        """
        livepatch = self.find(digest)
        if livepatch is None:
            return None
        return as_loaded(livepatch, lambda: self.read(digest), parameters, livepatch.name, self._layouts)

    def loaded(self, digest: str, parameters: tuple[str, ...]) -> None:
        """Note which parameters a livepatch is loaded with; none where somebody else does it, and may give it any."""
        with self._lock:
            history = self._history.with_loaded(digest, parameters)
            if history != self._history:
                self._set_history(history)

    def approve(self, digest: str) -> None:
        """Note that the livepatch with this digest was approved."""
        with self._lock:
            if digest not in self._history.approved:
                self._set_history(replace(self._history, approved=(*self._history.approved, digest)))

    def approved(self, livepatch: Installed) -> bool:
        """Whether an installed livepatch was approved since the machine booted."""
        return livepatch.digest in self._history.approved

    def _write(self, digest: str) -> None:
        with self._lock:
            livepatch = self._livepatches.get(digest)
            data = self._unwritten.get(digest)
        if livepatch is None:
            return  # forgotten meanwhile
        if data is not None:
            replace_file(self._file(digest, "ko"), data)
        replace_file(self._file(digest, "json"), json.dumps(to_plain(livepatch)).encode())
        with self._lock:
            self._unwritten.pop(digest, None)
            self._forget_old()

    def _write_declared(self, digest: str) -> None:
        with self._lock:
            declared = self._declarations.get(digest)
            surplus = [each for each in self._declarations if each not in self._livepatches][:-_MOST_DECLARED]
            for each in surplus:
                del self._declarations[each]
        if declared is not None:
            replace_file(self._declared_file(digest), json.dumps(to_plain(declared)).encode())
        for each in surplus:
            self._declared_file(each).unlink(missing_ok=True)

    def _set_history(self, history: History) -> None:
        self._history = history
        self._files.write(self._history_file.name, self._write_history)

    def _write_history(self) -> None:
        replace_file(self._history_file, json.dumps(to_plain(self._history)).encode())

    def _declared_file(self, digest: str) -> Path:
        return self._declared_folder / f"{digest}.json"

    def _file(self, digest: str, suffix: str) -> Path:
        return self._folder / f"{digest}.{suffix}"

    def _read_history(self) -> History:
        this_boot = boot_id()
        history = read_file(self._history_file, History)
        if history is None or history.boot_id != this_boot or not history.moments:
            return History(this_boot)
        return history

    def _forget_old(self) -> None:
        needed = {member.digest for moment in self._history.moments for member in moment.members}
        spare = [digest for digest in self._livepatches if digest not in needed and digest not in self._unwritten]
        for digest in spare[:-_SPARE]:
            del self._livepatches[digest]
            self._file(digest, "json").unlink(missing_ok=True)
            self._file(digest, "ko").unlink(missing_ok=True)
