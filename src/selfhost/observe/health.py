"""Whether an engine really answers: its own health flag, and one real token; and whether the gateway does.

vLLM's `/health` is a flag that stays up when the engine behind it hangs, so ready means: healthy and a token came back.
"""

import asyncio
import json
from enum import StrEnum
from types import TracebackType
from typing import Self

import aiohttp

HEALTH_SECONDS = 5.0
LIVE_SECONDS = 5.0
FIRST_TOKEN_SECONDS = 120.0  # the first request may compile kernels


class Health(StrEnum):
    """What `/health` said."""

    OK = "ok"
    DEAD = "dead"  # it answered that its engine is dead
    REFUSED = "refused"  # nobody listens: starting, or gone
    SILENT = "silent"  # no answer in time: busy, perhaps


class EngineProbe:
    """Asks one engine through its unix socket."""

    def __init__(self, socket: str, api_key: str) -> None:
        self._session = aiohttp.ClientSession(
            "http://engine",
            connector=aiohttp.UnixConnector(socket),
            headers={"Authorization": f"Bearer {api_key}"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def health(self) -> Health:
        """Ask `/health` once."""
        try:
            async with self._session.get("/health", timeout=aiohttp.ClientTimeout(total=HEALTH_SECONDS)) as response:
                return Health.OK if response.status == 200 else Health.DEAD
        except TimeoutError:
            return Health.SILENT
        except (aiohttp.ClientError, OSError):
            return Health.REFUSED

    async def first_token(self, model: str) -> str | None:
        """Have the engine generate one token; None when it did, else what went wrong in a few words."""
        request = {"model": model, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
        try:
            async with self._session.post(
                "/v1/completions", json=request, timeout=aiohttp.ClientTimeout(total=FIRST_TOKEN_SECONDS)
            ) as response:
                if response.status != 200:
                    said = (await response.read()).decode(errors="replace")
                    return f"its first request ended with HTTP {response.status}: {said[:500]}"
                tokens = json.loads(await response.read())["usage"]["completion_tokens"]
                return None if tokens == 1 else f"its first request gave {tokens!a:.40} tokens instead of one"
        except TimeoutError:
            return f"its first request had no answer within {FIRST_TOKEN_SECONDS:.0f} s"
        except (ValueError, KeyError, TypeError, RecursionError):
            return "the answer to its first request is not what vLLM answers"
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            return f"its first request failed: {type(error).__name__}: {error}"


async def gateway_answers(host: str, port: int) -> bool:
    """Whether the gateway that listens on `host` and `port` says that it is alive."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (replaced, not bound)
    url = f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIVE_SECONDS)) as session,
            session.get(f"{url}/livez") as response,
        ):
            return response.status == 200
    except (TimeoutError, aiohttp.ClientError, OSError):
        return False
