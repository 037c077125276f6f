# SPDX-License-Identifier: GPL-2.0-or-later
"""A root directory with policy files in it, and what klpd makes of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from klpd.errors import PolicyError
from klpd.policy import check_file, check_policy, find_files, read_policy

if TYPE_CHECKING:
    from klpd.judge.rules import Policy

ME: Final = os.geteuid()
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
        found = find_files(self.root, owner=ME)
        assert found.complaints == ()
        return [str(each.relative_to(self.root)) for each in found.files]

    def policy(self, *texts: str) -> Policy:
        """The policy of files that have these texts, in this order."""
        for number, text in enumerate(texts, start=1):
            self.put(f"{number}0-test.toml", text)
        return read_policy(self.root, owner=ME)

    def complaints(self, text: str | bytes) -> list[str]:
        """What is wrong with a file of this text, as "line:column: message"."""
        path = self.put("checked", text)
        return [str(each).removeprefix(f"{path}:") for each in check_file(path, owner=ME).complaints]

    def warnings(self) -> list[str]:
        """What `klpctl policy check` warns of, without the path of the site."""
        checked = check_policy(self.root, owner=ME)
        assert not any(each.complaints for each in checked.values())
        return [str(each).replace(f"{self.root}/", "") for found in checked.values() for each in found.warnings]

    def refusal(self) -> PolicyError:
        """What `read_policy` raises."""
        with pytest.raises(PolicyError) as caught:
            read_policy(self.root, owner=ME)
        return caught.value
