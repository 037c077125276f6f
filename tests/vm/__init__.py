# SPDX-License-Identifier: GPL-2.0-or-later
"""The test host: a Debian machine with livepatching, fresh for each test, in QEMU."""
