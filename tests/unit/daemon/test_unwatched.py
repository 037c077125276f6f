# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that were refused in directories that nobody watches: they are judged, and watched from then on."""

from __future__ import annotations

import gzip
import hashlib
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import pytest

from klpd.daemon.enforcement import Judged
from klpd.daemon.unwatched import Unwatched
from klpd.errors import KernelError
from klpd.kernel.guard_abi import (
    GuardEvent,
    RefusedFileEvent,
    Way,
)
from tests.builders import refusal

if TYPE_CHECKING:
    from pathlib import Path

DATA: Final = b"\x7fELF the bytes of a livepatch"
DIGEST: Final = hashlib.sha256(DATA).hexdigest()
FROM_MEMORY: Final = refusal(way=Way.BUFFER, module="klp_fix", digest=DIGEST)


@dataclass
class Scene:
    """What became of the files."""

    told: list[str] = field(default_factory=list)
    watched: list[str] = field(default_factory=list)
    unwatchable: bool = False

    def judge(self, data: bytes, file: str) -> Judged | None:
        assert file in self.watched or self.unwatchable, "who opens it when that is told is held already"
        return Judged(file, hashlib.sha256(data).hexdigest(), None, obstructed=False)

    def watch(self, fd: int) -> None:
        if self.unwatchable:
            raise KernelError("fanotify_mark", 22)
        self.watched.append(os.readlink(f"/proc/self/fd/{fd}"))

    def refused_file_judged(self, file: str, judged: Judged, unwatched: str) -> None:
        self.told.append(f"judged {file}{unwatched and f', not watched: {unwatched}'}")

    def refused_file_not_judged(self, file: str, why: str) -> None:
        self.told.append(f"{file}: {why}")


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "klp_fix.ko"
    path.write_bytes(DATA)
    return str(path)


def after(scene: Scene, *events: RefusedFileEvent | GuardEvent) -> Unwatched:
    """With these events taken, and all done that follows from them."""
    unwatched = Unwatched(scene.judge, scene.watch, scene)
    for each in events:
        if isinstance(each, GuardEvent):
            unwatched.loaded(each)
        else:
            unwatched.refused(each)
    unwatched._worker.shutdown()
    return unwatched


def test_a_file_that_was_refused_is_judged_and_its_openers_held_from_then_on(scene: Scene, file: str) -> None:
    unwatched = after(scene, RefusedFileEvent(1, 7, DIGEST, file))
    assert (scene.told, scene.watched) == ([f"judged {file}"], [file])
    with open(file, "rb") as opened, open(os.devnull, "rb") as other:
        assert unwatched.watches(opened.fileno())
        assert not unwatched.watches(other.fileno())


def test_it_is_told_where_it_cannot_be_watched(scene: Scene, file: str) -> None:
    scene.unwatchable = True
    after(scene, RefusedFileEvent(1, 7, DIGEST, file))
    assert scene.told == [f"judged {file}, not watched: fanotify_mark: Invalid argument"]


@pytest.mark.parametrize("what", ["gone", "other bytes", "a folder", "a link", "a pipe"])
def test_what_lies_there_and_is_not_what_was_refused_is_not_judged(scene: Scene, tmp_path: Path, what: str) -> None:
    path = tmp_path / "klp_fix.ko"
    match what:
        case "other bytes":
            path.write_bytes(DATA + b".")
        case "a folder":
            path.mkdir()
        case "a link":
            (tmp_path / "linked").write_bytes(DATA)
            path.symlink_to("linked")
        case "a pipe":
            os.mkfifo(path)
    after(scene, RefusedFileEvent(1, 7, DIGEST, str(path)))
    assert scene.watched == []
    assert [each.startswith(f"{path}: ") for each in scene.told] == [True]


def test_what_a_loader_unpacked_is_judged_by_its_file(scene: Scene, tmp_path: Path) -> None:
    packed = tmp_path / "klp_fix.ko.gz"
    packed.write_bytes(gzip.compress(DATA))
    after(scene, RefusedFileEvent(1, 7, "", str(packed)), FROM_MEMORY)
    assert scene.told == [f"judged {packed}"]


@pytest.mark.parametrize(
    "event", [replace(FROM_MEMORY, pid=8), replace(FROM_MEMORY, allowed=True), replace(FROM_MEMORY, way=Way.FILE)]
)
def test_nothing_else_that_is_loaded_has_to_do_with_that(scene: Scene, file: str, event: GuardEvent) -> None:
    after(scene, RefusedFileEvent(1, 7, "", file), event)
    assert scene.told == []


def test_a_file_that_is_refused_again_and_again_is_looked_at_once_at_a_time(scene: Scene, file: str) -> None:
    after(scene, *[RefusedFileEvent(each, 7, DIGEST, file) for each in range(1000)])
    assert 1 <= len(scene.told) < 1000
