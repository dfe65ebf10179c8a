"""The routing table on disk, which the manager replaces whenever something changes."""

import logging
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from selfhost.planner.routing import RoutingTable

_log = logging.getLogger("selfhost.gateway")
_adapter = TypeAdapter(RoutingTable)


class TableFile:
    """Notices when the file has changed and reads it; a bad file is reported once and changes nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: object = self  # what it looked like when last read; at first, like nothing known

    def changed(self) -> RoutingTable | None:
        """The new table, when there is one that can be read."""
        try:
            found = self._path.stat()
            signature = (found.st_mtime_ns, found.st_ino, found.st_size)
            if signature == self._seen:
                return None
            self._seen = signature
            table = _adapter.validate_json(self._path.read_bytes())
            for key in table.keys:
                bytes.fromhex(key.sha256)
        except OSError as error:
            if self._seen != error.errno:
                self._seen = error.errno
                _log.warning("cannot read the routing table %s: %s; the last one stays", self._path, error.strerror)
            return None
        except (ValidationError, ValueError) as error:
            problem = str(error).splitlines()[0]
            _log.error("the routing table %s is not valid (%s); the last one stays", self._path, problem)
            return None
        return table
