"""Every number that bounds what a client or an engine can make the gateway hold or wait for."""

from dataclasses import dataclass

from selfhost.units import KIB, MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one gateway; tests take smaller ones."""

    head_bytes: int = (
        32 * KIB
    )  # request line and headers; also chunk extensions and trailers between two pieces of body
    header_count: int = 100
    body_bytes: int = 10_000_000
    backlog_bytes: int = 64 * KIB  # of pipelined requests that wait for the answer before them
    unsent_bytes: int = 64 * KIB  # of a stream that its client has not taken yet; then the engine has to wait
    answer_head_bytes: int = 64 * KIB  # status lines and headers of an engine, and what comes in place of a body
    answer_bytes: int = 64 * MIB  # of an answer that is not streamed, and of one event of a stream
    connections: int = 4096

    head_seconds: float = 10
    body_seconds: float = 30
    keep_alive_seconds: float = 75
    first_byte_seconds: float = 600  # queueing and prefill; what the OpenAI clients wait by default
    stream_idle_seconds: float = 120  # between two pieces of an answer
    total_seconds: float = 3600
    stall_seconds: float = 120  # a client that takes nothing of what waits for it
    linger_seconds: float = 2  # for a refused client to stop sending, so that it reads the answer and not a reset
