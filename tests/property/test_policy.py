# SPDX-License-Identifier: GPL-2.0-or-later
"""Laws of reading policy files: whatever is in a file, there is a policy or a complaint with its place."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hypothesis import example, given, settings
from hypothesis import strategies as st

from klpd.model import LARGEST_VERSION
from klpd.policy import check_file
from klpd.policy.durations import parse_duration
from klpd.policy.read import read_files
from klpd.policy.versions import parse_versions

if TYPE_CHECKING:
    from klpd.errors import PolicyError
    from klpd.judge.rules import VersionRange

TOP: Final = Path(__file__).parents[2] / "policy"
SHIPPED: Final = [each.read_bytes() for each in sorted([*TOP.glob("*.toml"), *TOP.glob("examples/*.toml")])]
WORDS: Final = [
    *(f"[{each}]\n" for each in ("policy", "transition", "state", "livepatch", "[state]", "[livepatch]")),
    *("mode = ", "default = ", "unknown-states = ", "hold-timeout = ", "directories = ", "timeout = ", "on-timeout = "),
    *("force = ", "allow-unpatched-gap = ", "ftrace-off = "),
    *("id = ", "name = ", "sticky = ", "drop = ", "versions = ", "match = ", "verdict = ", "reason = ", "signer = "),
    *(
        '"allow"\n',
        '"deny"\n',
        '"audit"\n',
        '"force"\n',
        "true\n",
        "1\n",
        "0x1001\n",
        '">=2, <5"\n',
        '"5min"\n',
        '"/opt"\n',
        "1.5\n",
    ),
    *("{ ", " }\n", "[", "]\n", ", ", "\n", "# x\n", '"', "'''", "\\", "\0", "\r", "\ufeff", "ä", "2023-01-01\n"),
]


def complaints_about(data: bytes) -> tuple[PolicyError, ...]:
    """What is wrong with a policy file that has this in it.  Where nothing is, it makes a policy."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        path = Path(file.name)
        complaints = check_file(path, owner=None).complaints
        if complaints or not data:
            return complaints
        assert read_files([path], owner=None).files == (file.name,)
        return ()


def check_places(data: bytes) -> None:
    """Each complaint has a place, in the file or just behind its end."""
    lines = data.decode(errors="replace").replace("\r\n", "\n").split("\n")
    for each in complaints_about(data):
        assert each.line is not None
        assert each.column is not None
        assert 1 <= each.line <= len(lines)
        assert 1 <= each.column <= len(lines[each.line - 1]) + 1
        assert str(each).isprintable()


@given(st.binary(max_size=200))
def test_any_bytes_give_a_policy_or_complaints_with_places(data: bytes) -> None:
    check_places(data)


@settings(max_examples=500)
@given(st.lists(st.sampled_from(WORDS), max_size=30).map("".join))
@example("[policy]\nmode = " + "[" * 5000)
@example("a" + ".a" * 5000)
@example("[" + "a." * 5000)
@example("a = " + "{ a = " * 5000)
def test_the_words_of_the_language_in_any_order_do_too(text: str) -> None:
    check_places(text.encode())


@given(st.data())
def test_a_shipped_file_with_a_part_taken_out_or_doubled_does_too(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from(SHIPPED))
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    times = data.draw(st.sampled_from([0, 2]))
    changed = whole[:start] + whole[start:end] * times + whole[end:]
    check_places(changed)


@given(st.text(max_size=20))
def test_a_text_is_a_time_span_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_duration(text) >= 0


@given(
    st.lists(st.tuples(st.sampled_from(["<", "<=", "==", "!=", ">=", ">"]), st.integers(0, 8)), min_size=1, max_size=4)
)
def test_a_range_is_refused_if_and_only_if_no_version_is_in_it(bounds: list[tuple[str, int]]) -> None:
    text = ", ".join(f"{comparison}{version}" for comparison, version in bounds)
    compare = {"<": int.__lt__, "<=": int.__le__, "==": int.__eq__, "!=": int.__ne__, ">=": int.__ge__, ">": int.__gt__}
    accepted = [
        each for each in (*range(20), LARGEST_VERSION) if all(compare[how](each, version) for how, version in bounds)
    ]
    versions: VersionRange | None
    try:
        versions = parse_versions(text)
    except ValueError:
        versions = None
    assert (versions is None) is (not accepted)
    if versions is not None:
        assert [each for each in (*range(20), LARGEST_VERSION) if each in versions] == accepted
        assert str(versions) == text
