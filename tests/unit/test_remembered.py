# SPDX-License-Identifier: GPL-2.0-or-later
"""What klpd remembers, as klpctl reads it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd.daemon.store import Store
from klpd.remembered import Remembered, read_remembered
from tests.builders import declares
from tests.unit.daemon.fake_kernel import livepatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = 65534
ONE = livepatch("klp_one", digest="a" * 64)


def test_it_is_what_klpd_wrote(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(replace(ONE, declared=declares({1: 1})), b"")
    store.declare(replace(ONE, declared=declares({1: 2})))
    store.declare(replace(ONE, digest="b" * 64, declared=declares({1: 3})))
    found = read_remembered(tmp_path)
    assert found.known("klp_one", "klp_one") == (replace(ONE, declared=declares({1: 2})),)
    assert found.known("klp_one", "other") == ()
    assert found.declared("a" * 64) == declares({1: 2})
    assert found.declared("b" * 64) == declares({1: 3})
    assert found.declared("c" * 64) is None


def test_where_klpd_never_was_it_remembers_nothing(tmp_path: Path) -> None:
    assert read_remembered(tmp_path / "none") == Remembered()


def test_what_a_former_klpd_kept_with_the_livepatch_only_counts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(replace(ONE, declared=declares({1: 1})), b"")
    (tmp_path / "declared" / f"{ONE.digest}.json").unlink()
    assert read_remembered(tmp_path).declared(ONE.digest) == declares({1: 1})


@pytest.mark.parametrize("torn", ['{"states": [', '{"states": 3}', "[]"])
def test_a_torn_file_is_passed_over(tmp_path: Path, torn: str) -> None:
    store = Store(tmp_path)
    store.declare(replace(ONE, declared=declares({1: 1})))
    (tmp_path / "declared" / f"{ONE.digest}.json").write_text(torn)
    assert read_remembered(tmp_path).declared(ONE.digest) is None


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """klpd's directory, as its unit makes it."""
    (tmp_path / "klpd" / "livepatches").mkdir(parents=True)
    (tmp_path / "klpd").chmod(0)
    yield tmp_path / "klpd"
    (tmp_path / "klpd").chmod(0o700)


@contextmanager
def ordinary() -> Iterator[None]:
    """Whoever runs the tests is an ordinary user meanwhile."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def test_of_what_may_not_be_read_anything_may_be_declared(closed: Path) -> None:
    with ordinary():
        declared = read_remembered(closed).declared("a" * 64)
    assert declared is not None
    assert declared.unreadable == f"what klpd remembers is in {closed}, which cannot be read: Permission denied"
