# SPDX-License-Identifier: GPL-2.0-or-later
from datetime import datetime

from asn1crypto.core import Field

class Name(Field):
    human_friendly: str

class Certificate(Field):
    issuer: Name
    subject: Name
    key_identifier: bytes | None
    not_valid_after: datetime
