"""The versions of a corpus's fingerprint.

Version 1 is 64 hexadecimal digits, and covers the names and the order of the files too. Version 2 begins with ``v2-``,
and covers the texts alone, so that the same texts are the same corpus for everyone. Every version stays readable.
"""

VERSION_2 = "v2-"


def fingerprint_version(fingerprint: str) -> int:
    """1 or 2."""
    return 2 if fingerprint.startswith(VERSION_2) else 1
