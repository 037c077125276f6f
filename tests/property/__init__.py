# SPDX-License-Identifier: GPL-2.0-or-later
"""Laws, tried on many made-up cases by hypothesis."""
