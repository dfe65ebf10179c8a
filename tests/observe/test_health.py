"""What an engine answers to its first request, with an engine that answers anything."""

from pathlib import Path

import pytest
from aiohttp import web

from selfhost.observe.health import EngineProbe

STRANGE = "the answer to its first request is not what vLLM answers"


async def ask(socket: Path, body: bytes, *, status: int = 200, content_type: str = "application/json") -> str | None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status, headers={"Content-Type": content_type})

    app = web.Application()
    app.router.add_post("/v1/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    try:
        async with EngineProbe(str(socket), "key") as probe:
            return await probe.first_token("chat")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "body, said",
    [
        (b'{"usage": {"completion_tokens": 1}}', None),
        (b'{"usage": {"completion_tokens": 0}}', "its first request gave 0 tokens instead of one"),
        (b'{"usage": {"completion_tokens": "\\u001b[2J"}}', r"its first request gave '\x1b[2J' tokens instead of one"),
        (b"[" * 100_000, STRANGE),
        (b"", STRANGE),
        (b"[]", STRANGE),
        (b"{}", STRANGE),
        (b'{"usage": 1}', STRANGE),
        (b"\xff", STRANGE),
        (b'{"usage": {"completion_tokens": ' + b"1" * 5000 + b"}}", STRANGE),
    ],
)
async def test_whatever_comes_instead_of_a_token_is_a_sentence(isolated: Path, body: bytes, said: str | None) -> None:
    assert await ask(isolated / "engine", body) == said


async def test_what_went_wrong_is_told_in_whatever_encoding(isolated: Path) -> None:
    said = await ask(isolated / "engine", b"no \xff" + b"x" * 1000, status=500, content_type="text/plain; charset=y")
    assert said.startswith("its first request ended with HTTP 500: no \ufffdxxx")
    assert len(said) < 600
