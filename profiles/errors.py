"""The one exception of this package.

ProfileError (a RoutingError, ValueError)   a file that is not a valid profile, or a name that does not
exist; says file and key
"""

from __future__ import annotations

from routing.errors import RoutingError


class ProfileError(RoutingError, ValueError):
    """What is wrong with a profile, and where: `file`, `key` (dotted; empty: the whole file), `message`."""

    def __init__(self, file: str, key: str, message: str) -> None:
        super().__init__(f"{file}: {key}: {message}" if key else f"{file}: {message}")
        self.file = file
        self.key = key
        self.message = message
