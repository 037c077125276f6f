# SPDX-License-Identifier: GPL-2.0-or-later
from pydbus import bus as bus
from pydbus import registration as registration
