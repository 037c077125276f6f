# SPDX-License-Identifier: GPL-2.0-or-later
from asn1crypto.core import Field

class ContentInfo(Field): ...
