# SPDX-License-Identifier: GPL-2.0-or-later
"""Real livepatches, and modules for them to patch, built from a table and a few C files.  See table.py."""
