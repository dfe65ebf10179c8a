"""Runs a manager until it has ended: as the foreground of `selfhost up`, or in the background on its own."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable

from selfhost import logs
from selfhost.errors import SelfhostError
from selfhost.runtime.control import control_socket
from selfhost.runtime.control_server import start_control_server
from selfhost.runtime.manager import Manager
from selfhost.runtime.own_logs import keep_bounded

FIRST_PLAN_SECONDS = 60.0  # a manager in the background that nobody gives a plan ends by itself


async def serve(name: str, *, started: Callable[[], None], hangup: Callable[[], None]) -> signal.Signals | None:
    """Run the manager of `name` until everything is stopped; returns the signal that asked for it, if one did.

    `started` is called when the control socket answers, `hangup` when the terminal is lost: then everything goes on.
    Raises `SelfhostError` when another manager of that name runs, or when this one cannot begin.
    """
    try:
        return await _serve(name, started, hangup)
    except OSError as error:
        raise SelfhostError(
            f"the manager cannot go on: {error.strerror} ({error.filename or 'no file named'})",
            hint="is a disk full, or read-only? `df -h` and `df -i` tell",
        ) from error


async def _serve(name: str, started: Callable[[], None], hangup: Callable[[], None]) -> signal.Signals | None:
    os.umask(0o077)  # sockets, logs and tables are for this user alone; engines inherit it
    manager = Manager(name)
    asked: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        asked.append(number)
        manager.end(drain=True)

    def end_when_lonely() -> None:
        if manager.status().plan is None:
            manager.end(drain=False)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGHUP, hangup)
    await manager.begin()
    try:
        server = await start_control_server(manager)
        lonely = loop.call_later(FIRST_PLAN_SECONDS, end_when_lonely)
        bounding = asyncio.create_task(keep_bounded(name), name="logs")
        try:
            started()
            await manager.ended.wait()
        finally:
            lonely.cancel()
            bounding.cancel()
            await server.cleanup()
    finally:
        control_socket(name).unlink(missing_ok=True)
        manager.release()
    return asked[0] if asked else None


def main() -> int:
    """`python -m selfhost.runtime.serve NAME`: a manager in the background, which waits for its first plan."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name")
    name = parser.parse_args().name
    logs.configure()
    try:
        asyncio.run(serve(name, started=lambda: None, hangup=lambda: None))
    except SelfhostError as error:
        print(*error.lines(), sep="\n", file=sys.stderr)  # noqa: T201 (the command that started us reads it)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
