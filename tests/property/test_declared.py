# SPDX-License-Identifier: GPL-2.0-or-later
"""Laws of reading what is declared: whatever the bytes are, there is a declaration or a complaint of the right kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from klpd.errors import ModuleFormatError, PolicyError
from klpd.model import MOST_DECLARED
from klpd.module.declared import read_declared
from klpd.module.modinfo import Modinfo
from klpd.policy.manifest import parse_manifest
from klpd.policy.source import LARGEST

if TYPE_CHECKING:
    from klpd.model import Declaration

DIGEST: Final = "ab" * 32
WHOLE: Final = f"""[livepatch]
sha256 = "{DIGEST}"
build-id = "0a0b"
title = "Fix the locks"
fixes = ["CVE-2026-1000"]
[[state]]
id = 0x1001
version = 2
sticky = true
restores = false
[[state]]
id = 7
version = 0
""".encode()
WORDS: Final = [
    *("[livepatch]\n", "[[state]]\n", "[state]\n", "[[livepatch]]\n"),
    *("sha256 = ", "build-id = ", "title = ", "fixes = ", "stateless = ", "id = ", "version = ", "sticky = "),
    *("restores = ", f'"{DIGEST}"\n', '"0a"\n', '["CVE-2026-1000"]\n', "true\n", "false\n", "1\n", "0x1001\n", "-1\n"),
    *("{ ", " }\n", "[", "]\n", ", ", "\n", "# x\n", '"', "'''", "\\", "\0", "\r", "\ufeff", "ä", "2023-01-01\n"),
]


def check(data: bytes) -> None:
    lines = data.decode(errors="replace").replace("\r\n", "\n").split("\n")
    try:
        manifest = parse_manifest(data, "m.toml")
    except PolicyError as error:
        event("refused")
        for each in (error, *error.others):
            assert each.line is not None
            assert each.column is not None
            assert 1 <= each.line <= len(lines)
            assert str(each).isprintable()
        return
    event("taken")
    assert manifest.sha256 or manifest.build_id
    check_states(manifest.declaration)


def check_states(declaration: Declaration) -> None:
    states = declaration.states or ()
    assert len(states) <= MOST_DECLARED
    assert len({each.id for each in states}) == len(states)
    assert all(0 < each.id < 1 << 64 and 0 <= each.version < 1 << 32 for each in states)


@given(st.binary(max_size=200))
@example(b"a = " + b"[" * 5000)
@example(b"[livepatch]\nsha256 = 1" + b"1" * 5000)
@example(b"[[state]]\n" * (LARGEST // 10))
def test_any_bytes_give_a_manifest_or_complaints_with_places(data: bytes) -> None:
    check(data)


@settings(max_examples=400)
@given(st.lists(st.sampled_from(WORDS), max_size=30).map("".join))
def test_the_words_of_the_language_in_any_order_do_too(text: str) -> None:
    check(text.encode())


@settings(max_examples=400)
@given(st.integers(0, len(WHOLE)), st.integers(0, 40), st.binary(max_size=3) | st.sampled_from([b"0", b"-", b'"']))
def test_a_manifest_with_a_part_exchanged_does_too(start: int, length: int, new: bytes) -> None:
    check(WHOLE[:start] + new + WHOLE[start + length :])


PARTS: Final = ("0", "1", "9", "x", "f", ":", ",", "sticky", "restores", "none")


@settings(max_examples=400)
@given(st.lists(st.text(max_size=30) | st.lists(st.sampled_from(PARTS)).map("".join), max_size=4))
def test_any_tags_give_a_declaration_or_a_complaint(values: list[str]) -> None:
    tags = Modinfo((("name", "klp_a"), *(("klpd_state", each) for each in values)))
    try:
        check_states(read_declared(tags))
    except ModuleFormatError as error:
        event(str(error).split(";")[0])
