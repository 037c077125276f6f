# SPDX-License-Identifier: GPL-2.0-or-later
from collections.abc import Iterator
from typing import Literal

def unarmor(pem_bytes: bytes, multiple: Literal[True]) -> Iterator[tuple[str, dict[str, str], bytes]]: ...
