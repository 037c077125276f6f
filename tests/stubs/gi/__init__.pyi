# SPDX-License-Identifier: GPL-2.0-or-later
version_info: tuple[int, int, int]

def require_version(namespace: str, version: str) -> None: ...
