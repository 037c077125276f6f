# SPDX-License-Identifier: GPL-2.0-or-later
"""klpctl, the command line of klpd."""
