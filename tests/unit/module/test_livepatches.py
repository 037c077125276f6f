# SPDX-License-Identifier: GPL-2.0-or-later
"""What is read of real livepatches is what their table says, and what modinfo and readelf say."""

from __future__ import annotations

import hashlib
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from klpd import module
from klpd.errors import NotALivepatchError
from klpd.model import Format
from klpd.module import Kind
from tests.livepatches.table import BY_FORMAT, ROWS, TABLES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.livepatches.table import Row

ROWS_BY_NAME = [pytest.param(row, id=row.name) for row in ROWS]
ORDINARY = ["klp_test_target", "klp_ordinary", "klp_test_kprobe"]


def output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("row", ROWS_BY_NAME)
def test_a_livepatch_is_read_as_its_row_describes_it(row: Row, modules: dict[str, Path]) -> None:
    data = modules[row.name].read_bytes()

    found = module.read_livepatch(data, file=row.name)

    assert module.recognise(data) is Kind.LIVEPATCH
    assert (found.name, found.description, found.version) == (row.name, row.about, row.version)
    assert (found.format, found.replace, found.states) == (Format.STATIC, row.replace, row.states)
    assert found.objects == row.objects
    assert found.needs == (() if row.needs is None else (row.needs,))


@pytest.mark.parametrize("row", ROWS_BY_NAME)
def test_modinfo_says_the_same(row: Row, modules: dict[str, Path]) -> None:
    found = module.read_livepatch(modules[row.name].read_bytes(), file=row.name)

    lines = output("modinfo", modules[row.name]).splitlines()
    tags = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert found.name == tags["name"]
    assert found.vermagic.strip() == tags["vermagic"]
    assert ",".join(found.depends) == tags["depends"]
    assert (found.version, found.srcversion) == (tags.get("version"), tags.get("srcversion"))
    assert (found.description, found.license) == (tags["description"], tags["license"])


def test_what_is_declared_in_the_modinfo_is_read(modules: dict[str, Path]) -> None:
    tags = output("modinfo", "--field", "klpd_state", modules["klp_declared"]).split()
    assert sorted(tags) == ["0x2003:2:sticky,restores", "0x2004:1"]

    states = module.read_livepatch(modules["klp_declared"].read_bytes(), file="").declared.states or ()
    found = sorted(states, key=lambda each: each.id)

    assert [(each.id, each.version) for each in found] == [(0x2003, 2), (0x2004, 1)]
    assert [(each.sticky, each.restores, str(each.rule)) for each in found] == [
        (True, True, "the modinfo of klp_declared"),
        (False, None, "the modinfo of klp_declared"),
    ]
    assert module.read_livepatch(modules["klp_declares_none"].read_bytes(), file="").declared.states == ()


def test_readelf_says_the_same_build_id(modules: dict[str, Path]) -> None:
    path = modules["klp_cmdline_v1"]

    said = re.search(r"Build ID: (\w+)", output("readelf", "--notes", path))

    assert said is not None
    assert module.read_livepatch(path.read_bytes(), file="").build_id == said[1]


def test_the_kernel_that_a_livepatch_is_for_is_the_first_word_of_its_vermagic(modules: dict[str, Path]) -> None:
    found = module.read_livepatch(modules["klp_cmdline_v1"].read_bytes(), file="")

    assert found.kernel_release == modules["klp_cmdline_v1"].parent.name


def test_a_livepatch_for_another_kernel_is_read_like_any_other(modules: dict[str, Path]) -> None:
    found = module.read_livepatch(modules["klp_other_kernel"].read_bytes(), file="")

    assert found.kernel_release == "0" + modules["klp_cmdline_v1"].parent.name[1:]


def test_digest_and_size_are_those_of_the_file(modules: dict[str, Path]) -> None:
    data = modules["klp_cmdline_v1"].read_bytes()

    found = module.read_livepatch(data, file="")

    assert (found.digest, found.size) == (hashlib.sha256(data).hexdigest(), len(data))


@pytest.mark.parametrize("row", ROWS_BY_NAME)
def test_no_symbol_is_needed_but_those_that_relocations_need(
    row: Row, modules: dict[str, Path], tmp_path: Path
) -> None:
    stripped = tmp_path / "stripped.ko"
    output("strip", "--strip-unneeded", "-o", stripped, modules[row.name])

    found = module.read_livepatch(stripped.read_bytes(), file=row.name)

    assert (found.replace, found.states, found.objects) == (row.replace, row.states, row.objects)


def test_of_a_livepatch_put_together_at_run_time_nothing_is_known_but_its_modinfo(modules: dict[str, Path]) -> None:
    found = module.read_livepatch(modules["klp_allocated"].read_bytes(), file="")

    assert (found.format, found.replace, found.states, found.objects) == (Format.UNKNOWN, None, None, None)
    assert found.name == "klp_allocated"


@pytest.mark.parametrize(("name", "form"), BY_FORMAT.items())
def test_a_livepatch_is_read_in_the_format_of_its_build_system(
    name: str, form: Format, modules: dict[str, Path]
) -> None:
    found = module.read_livepatch(modules[name].read_bytes(), file="")

    assert (found.format, found.replace, found.states) == (form, None, ())
    assert found.objects == TABLES


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_module_is_no_livepatch(name: str, modules: dict[str, Path]) -> None:
    data = modules[name].read_bytes()

    assert module.recognise(data) is Kind.ORDINARY
    assert not module.is_livepatch(data)
    with pytest.raises(NotALivepatchError, match=r"^here\.ko: a kernel module, but not a livepatch$"):
        module.read_livepatch(data, file="here.ko")
