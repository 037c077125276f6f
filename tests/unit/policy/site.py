# SPDX-License-Identifier: GPL-2.0-or-later
"""A root directory with policy files in it, and what klpd makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from klpd.errors import PolicyError
from klpd.policy import check_file, list_files, read_policy

if TYPE_CHECKING:
    from klpd.judge.rules import Policy

ETC: Final = "etc/klpd/policy.d"
RUN: Final = "run/klpd/policy.d"
USR: Final = "usr/lib/klpd/policy.d"


@dataclass(frozen=True)
class Site:
    root: Path

    def path(self, name: str, directory: str = ETC) -> Path:
        path = self.root / directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def put(self, name: str, text: str | bytes = "\n", directory: str = ETC) -> Path:
        path = self.path(name, directory)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def listed(self) -> list[str]:
        return [str(each.relative_to(self.root)) for each in list_files(self.root)]

    def policy(self, *texts: str) -> Policy:
        """The policy of files that have these texts, in this order."""
        for number, text in enumerate(texts, start=1):
            self.put(f"{number}0-test.toml", text)
        return read_policy(self.root)

    def complaints(self, text: str | bytes) -> list[str]:
        """What is wrong with a file of this text, as "line:column: message"."""
        path = self.put("checked", text)
        return [str(each).removeprefix(f"{path}:") for each in check_file(path)]

    def refusal(self) -> PolicyError:
        """What `read_policy` raises."""
        with pytest.raises(PolicyError) as caught:
            read_policy(self.root)
        return caught.value
