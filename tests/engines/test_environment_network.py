"""The indexes are asked as uv asks them: through the configured proxy, with the configured certificates."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from selfhost.engines import indexes, network
from selfhost.engines.network import Network
from selfhost.errors import SelfhostError
from selfhost.planner.plan import Variant


class RefusingProxy(BaseHTTPRequestHandler):
    """A proxy that lets nobody out."""

    code = 407

    def do_CONNECT(self) -> None:
        self.send_error(self.code)

    def do_HEAD(self) -> None:
        self.send_error(self.code)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(params=[(407, "Proxy Authentication Required"), (403, "Forbidden")])
def proxy(request) -> Iterator[tuple[str, str]]:
    """The address of a proxy that refuses, with a password in it, and how it says no."""
    code, words = request.param
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Proxy", (RefusingProxy,), {"code": code}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://me:secret@127.0.0.1:{server.server_port}", f"{code} {words}"
    server.shutdown()
    server.server_close()


def ask(environ: dict[str, str], variant: Variant = Variant.CPU, *, no_index: bool = False) -> Network:
    return network.ask("0.32.0", variant, environ, equal_indexes=False, no_index=no_index)


def test_what_answers_is_used_and_what_does_not_says_why(index) -> None:
    index.serve_own()
    assert ask({}) == Network(vllm_index=True, problems=("PyTorch's cpu index: does not answer (Connection refused)",))
    assert ask({}, Variant.CU129).problems[0] == "vLLM's own cu129 index: does not have it"


def test_vllm_has_no_index_of_its_own_for_the_build_of_the_ordinary_one(index) -> None:
    index.serve_own("cu130")
    assert ask({}, Variant.CU130) == Network(problems=("PyTorch's cu130 index: does not answer (Connection refused)",))


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_that_refuses_is_named_without_its_password(index, proxy, monkeypatch, selfhost, variable: str) -> None:
    address, words = proxy
    index.unreachable()
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv(variable, address)
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setattr(indexes, "VLLM", "https://wheels.example/{version}/{variant}")
    ran = selfhost("engine", "install", "--variant", "cpu", "--no-compiler")
    assert ran.code == 1
    named = address.replace("me:secret@", "")
    assert f"error: no installable vLLM 0.32.0 (cpu) was found (through the proxy {named} ({variable})):" in ran.stderr
    assert f"vLLM's own cpu index: does not answer (Tunnel connection failed: {words})" in ran.stderr
    assert "secret" not in ran.stderr


def test_hosts_that_need_no_proxy_are_asked_without_it(index, proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    index.serve_own()
    environ = {"HTTP_PROXY": proxy[0]}
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert ask(environ).vllm_index
    monkeypatch.setenv("NO_PROXY", "elsewhere.example")
    assert ask(environ).problems[0] == f"vLLM's own cpu index: answers {proxy[1]}"


@pytest.mark.parametrize(("environ", "no_index"), [({"UV_OFFLINE": "1"}, False), ({}, True)])
def test_nobody_is_asked_where_the_configuration_says_so(index, environ: dict[str, str], *, no_index: bool) -> None:
    index.serve_own()
    answered = ask(environ, no_index=no_index)
    assert (answered.vllm_index, answered.pytorch_index) == (False, False)
    assert answered.problems[0] == "vLLM's own cpu index: not asked: the configuration says to stay off the network"


def test_certificates_that_cannot_be_read_are_named() -> None:
    with pytest.raises(SelfhostError, match=r"SSL_CERT_FILE=/nowhere/ca\.pem cannot be read: No such file"):
        ask({"SSL_CERT_FILE": "/nowhere/ca.pem"})


def test_a_proxy_that_does_not_speak_http_is_a_problem_like_others(index) -> None:
    index.unreachable()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def chat() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(b"\x1b[31mnot http\r\n\r\n")
                        connection.shutdown(socket.SHUT_WR)
                        connection.recv(65536)

        threading.Thread(target=chat, daemon=True).start()
        found = ask({"ALL_PROXY": f"http://127.0.0.1:{server.getsockname()[1]}"})
    assert [problem.partition(" (")[0] for problem in found.problems] == [
        "vLLM's own cpu index: does not answer",
        "PyTorch's cpu index: does not answer",
    ]
