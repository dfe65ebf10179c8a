"""`python -m selfhost.gateway`: started by the manager, one per manifest."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from selfhost import logs
from selfhost.errors import ExitCode, SelfhostError
from selfhost.gateway.process import Gateway, Options, serve


def main(argv: Sequence[str] | None = None) -> int:
    """Run a gateway; the exit code says how it ended."""
    logs.configure()
    try:
        gateway = Gateway(_options(argv))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(gateway))
    except SelfhostError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    return ExitCode.OK


def _options(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m selfhost.gateway", description="The gateway's data plane.")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="[HOST]:PORT for IPv6")
    parser.add_argument("--fd", type=int, metavar="N", help="a socket, handed down, that already listens there")
    parser.add_argument("--table", required=True, type=Path, metavar="FILE", help="the routing table, as JSON")
    parser.add_argument("--keys", required=True, type=Path, metavar="FILE", help="the key store; need not exist")
    parser.add_argument("--engine-key", required=True, type=Path, metavar="FILE", help="the engines' internal key")
    parser.add_argument("--drain-seconds", type=float, default=30, metavar="S", help="for running requests at the end")
    return Options(**vars(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
