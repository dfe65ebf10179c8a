"""Looking at many things at once, and not waiting for those that do not answer."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from selfhost.doctor.facts import NotLooked
from selfhost.errors import SelfhostError
from selfhost.units import format_duration

T = TypeVar("T")


class Background(Generic[T]):
    """`look()` in a thread of its own, which does not keep this program from ending."""

    def __init__(self, look: Callable[[], T]) -> None:
        self._look = look
        self._began = time.monotonic()
        self._found: list[T | NotLooked] = []
        self._defect: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self, until: float) -> T | NotLooked:
        """What was found by the monotonic time `until`; what cannot be asked is no error, and a defect of ours is."""
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._defect:
            raise self._defect
        if not self._found:
            return NotLooked(cause=f"no answer within {format_duration(time.monotonic() - self._began)}")
        return self._found[0]

    def _run(self) -> None:
        try:
            self._found.append(self._look())
        except SelfhostError as error:
            self._found.append(NotLooked(cause=error.message))
        except OSError as error:
            self._found.append(NotLooked(cause=f"{error.strerror or error}"))
        except Exception as error:  # noqa: BLE001 (raised again where the result is wanted)
            self._defect = error
