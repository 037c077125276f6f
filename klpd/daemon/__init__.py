# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon: wiring of the judge to the running kernel, the bus, the journal and systemd."""
