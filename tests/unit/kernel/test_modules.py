# SPDX-License-Identifier: GPL-2.0-or-later
"""What an error of loading a module is put down to."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from klpd.kernel.modules import hint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("disabled", "code", "told"),
    [
        ("1\n", errno.EPERM, " while kernel.modules_disabled is 1, which it is until the next boot"),
        ("1\n", errno.ENOEXEC, ""),
        ("0\n", errno.EPERM, ""),
    ],
    ids=["no module may be loaded", "another error", "refused by somebody else"],
)
def test_a_refusal_is_put_down_to_disabled_modules_where_they_are(
    tmp_path: Path, disabled: str, code: int, told: str
) -> None:
    switch = tmp_path / "proc/sys/kernel/modules_disabled"
    switch.parent.mkdir(parents=True)
    switch.write_text(disabled)
    assert hint(code, tmp_path) == told
