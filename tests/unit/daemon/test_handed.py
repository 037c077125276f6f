# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules and manifests that a caller hands over, and who may declare what."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from klpd.daemon.handed import read_files
from klpd.errors import NotAuthorizedError, PolicyError, UsageError
from klpd.layout import known_layout
from klpd.module import read_livepatch
from tests.builders import declares
from tests.livepatches.build import build
from tests.unit.module.compilers import example

if TYPE_CHECKING:
    from pathlib import Path

    from klpd.daemon.handed import HandedOver, NamedFile
    from klpd.model import Declaration

USER = 1000
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file root's")


def opened(path: Path) -> NamedFile:
    return path.open("rb"), str(path)


def manifest(folder: Path, name: str, version: int = 2) -> Path:
    """A manifest for a test livepatch."""
    digest = hashlib.sha256(build()[name].read_bytes()).hexdigest()
    path = folder / f"{name}.livepatch.toml"
    path.write_text(f'[livepatch]\nsha256 = "{digest}"\n[[state]]\nid = 7\nversion = {version}\n')
    return path


def nothing(_digest: str) -> Declaration | None:
    return None


def versions(handed: HandedOver) -> list[int]:
    return [each.version for each in handed.livepatch.declared.states or ()]


def test_a_livepatch_is_told_as_it_is_with_any_parameters_and_as_it_is_with_those_given(tmp_path: Path) -> None:
    path = tmp_path / "example.ko"
    path.write_bytes(example("x86_64", "PARAMETERS"))
    (handed,) = read_files([opened(path)], [], nothing, known_layout)
    assert (handed.livepatch.replace, handed.loaded.replace) == (None, True)
    (handed,) = read_files([opened(path)], [], nothing, known_layout, parameters=[("replace=0",)])
    assert (handed.livepatch.replace, handed.loaded.replace) == (None, False)
    with pytest.raises(UsageError, match=r"example\.ko: the module has no parameter cumulative"):
        read_files([opened(path)], [], nothing, known_layout, parameters=[("cumulative=1",)])


def test_each_livepatch_has_what_its_own_manifest_declares_in_whatever_order_they_come(tmp_path: Path) -> None:
    names = ("klp_allocated", "klp_add", "klp_other")
    files = [opened(build()[each]) for each in names]
    manifests = [opened(manifest(tmp_path, "klp_add", 3)), opened(manifest(tmp_path, "klp_allocated", 2))]
    handed = read_files(files, manifests, nothing, known_layout)
    assert [each.livepatch.name for each in handed] == list(names)
    assert [versions(each) for each in handed] == [[2], [3], []]
    assert [each.data for each in handed] == [build()[each].read_bytes() for each in names]
    assert all(file.closed for file, _name in (*files, *manifests))


def test_a_manifest_for_none_of_them_is_refused(tmp_path: Path) -> None:
    path = manifest(tmp_path, "klp_add")
    with pytest.raises(PolicyError, match=f"^{path}: it is not for klp_allocated"):
        read_files([opened(build()["klp_allocated"])], [opened(path)], nothing, known_layout)


def test_without_a_manifest_what_was_declared_before_holds(tmp_path: Path) -> None:
    plain = read_livepatch(build()["klp_allocated"].read_bytes(), file="klp_allocated.ko")

    def remembered(digest: str) -> Declaration | None:
        return declares({7: 9}) if digest == plain.digest else None

    (handed,) = read_files([opened(build()["klp_allocated"])], [], remembered, known_layout)
    assert versions(handed) == [9]
    (handed,) = read_files(
        [opened(build()["klp_allocated"])], [opened(manifest(tmp_path, "klp_allocated", 2))], remembered, known_layout
    )
    assert versions(handed) == [2]


def test_a_manifest_that_lies_beside_one_of_them_is_for_none_but_that(tmp_path: Path) -> None:
    for name in ("klp_allocated", "klp_add"):
        (tmp_path / f"{name}.ko").write_bytes(build()[name].read_bytes())
    files = ("klp_allocated", "klp_add")
    wrong = manifest(tmp_path, "klp_add")
    wrong.rename(tmp_path / "klp_allocated.livepatch.toml")
    with pytest.raises(PolicyError, match=r"klp_allocated\.livepatch\.toml: it is not for klp_allocated"):
        read_files(
            [opened(tmp_path / f"{each}.ko") for each in files],
            [opened(tmp_path / "klp_allocated.livepatch.toml")],
            nothing,
            known_layout,
        )


@as_root
@pytest.mark.parametrize(("mode", "uid", "allowed"), [(0o644, USER, True), (0o666, USER, False), (0o666, 0, True)])
def test_nobody_but_root_declares_anything(tmp_path: Path, mode: int, uid: int, allowed: bool) -> None:
    path = manifest(tmp_path, "klp_allocated")
    path.chmod(mode)
    (handed,) = read_files([opened(build()["klp_allocated"])], [opened(path)], nothing, known_layout)
    if allowed:
        handed.check_author(uid)
    else:
        with pytest.raises(NotAuthorizedError, match="others than root may write it, and only root may declare"):
            handed.check_author(uid)
