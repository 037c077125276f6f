# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel: sysfs, modules, the guard, the readers of its memory, held opens.  Nothing here judges."""
