"""The routing table on disk, which the manager replaces whenever something changes."""

import logging
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from selfhost import regular_file
from selfhost.planner.routing import RoutingTable
from selfhost.units import MIB

LARGEST_FILE_BYTES = 100 * MIB

_log = logging.getLogger("selfhost.gateway")
_adapter = TypeAdapter(RoutingTable)


class TableFile:
    """Notices when the file has changed and reads it; one that cannot be read is reported once and changes nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None  # what the file looked like when it was last read
        self._complaint = ""

    def changed(self) -> RoutingTable | None:
        """The new table, when there is one that can be read."""
        try:
            found = self._path.stat()
            signature = (found.st_mtime_ns, found.st_ino, found.st_size)
            if signature == self._seen:
                return None
            table = _adapter.validate_json(regular_file.read(self._path, limit=LARGEST_FILE_BYTES))
            for key in table.keys:
                bytes.fromhex(key.sha256)
        except OSError as error:
            self._complain(f"cannot read the routing table {self._path}: {error.strerror}; the last one stays")
            return None
        except ValueError as error:
            self._complain(f"the routing table {self._path} is not valid ({_problem(error)}); the last one stays")
            return None
        self._seen = signature
        self._complaint = ""
        return table

    def _complain(self, complaint: str) -> None:
        """Say it once, not four times a second."""
        if complaint != self._complaint:
            _log.error("%s", complaint)
        self._complaint = complaint


def _problem(error: ValueError) -> str:
    """The first thing that is wrong: `models.0.name: Field required`."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
