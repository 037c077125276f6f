# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast klpd's programs are, as ratios of times measured side by side."""
