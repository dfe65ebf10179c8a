"""A stand-in for `vllm serve` with the process tree, the exits and the texts that vLLM 0.32 was seen to have.

    python vllm.py FAULTS serve MODEL --uds=PATH --served-model-name=NAME [--shutdown-timeout=S] [anything else]

API server -> VLLM::EngineCore -> VLLM::Worker, one process group, shared memory mapped by both, sockets in
VLLM_RPC_BASE_PATH. The file FAULTS (JSON, read at start) maps served names, or "*", to what goes wrong:
    startup_seconds   how long the start takes (default 0.1)
    log, exit_code    what a failing start writes and ends with (negative: the signal that kills it)
    linger            stay alive after `log` instead of ending, as the API server does when its core has given up
    lose_sigterm      ignore SIGTERM while starting
    tokens_per_second how fast it generates (default 200)
    no_tokens         answer every request with HTTP 500
    dies_of_request   what the core writes before it dies of the first request
What it reproduces (engine facts, measured on the real one): refused connections until ready; /health is a flag that
stays 200 when the core is stopped; a killed core or worker gives 503, then exit 0 about a second later; a killed API
server leaves core and worker behind; SIGTERM aborts with HTTP 200 and `finish_reason: abort`, or drains.
"""

import ctypes
import json
import mmap
import os
import secrets
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

PR_SET_NAME = 15
ORPHAN_LINGERS_SECONDS = 60.0
LAST_WORDS_SECONDS = 1.0


def name_process(name):
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def map_shared_memory(path):
    with Path(path).open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def worker(shared_memory):
    name_process("VLLM::Worker")
    mapped = map_shared_memory(shared_memory)
    core = os.getppid()
    end = None
    while end is None or time.monotonic() < end:
        time.sleep(0.05)
        if os.getppid() != core and end is None:
            end = time.monotonic() + ORPHAN_LINGERS_SECONDS
    mapped.close()


def core(shared_memory):
    name_process("VLLM::EngineCor")
    mapped = map_shared_memory(shared_memory)
    child = subprocess.Popen([sys.executable, __file__, "--worker", shared_memory])

    def end(*_):
        child.kill()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    for _ in sys.stdin:  # a line asks for a token
        if child.poll() is not None:
            os._exit(1)
        sys.stdout.write("t\n")
        sys.stdout.flush()
    time.sleep(ORPHAN_LINGERS_SECONDS)  # the API server is gone: an orphan, as the real one
    mapped.close()


class Engine:
    def __init__(self, options, faults, faults_path):
        self.model = options["served-model-name"]
        self.faults = faults
        self.drain_seconds = float(options.get("shutdown-timeout", 0))
        self.dead = self.stopping = False
        self.running = self.generated = 0
        self.lock = threading.Lock()
        path = Path("/dev/shm", f"psm_{faults_path.parents[3].name}_{secrets.token_hex(4)}")
        path.write_bytes(bytes(4096))
        self.mapped = map_shared_memory(path)  # as multiprocessing.SharedMemory does
        self.core = subprocess.Popen(
            [sys.executable, __file__, "--core", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.shared_memory = path
        rpc = socket.socket(socket.AF_UNIX)
        rpc.bind(f"{os.environ['VLLM_RPC_BASE_PATH']}/{secrets.token_hex(18)}")
        self.rpc = rpc

    def token(self):
        with self.lock:
            try:
                self.core.stdin.write("x\n")
                self.core.stdin.flush()
                answer = self.core.stdout.readline()
            except (BrokenPipeError, ValueError):
                answer = ""
            if not answer:
                raise RuntimeError("EngineDeadError")
        time.sleep(1 / self.faults.get("tokens_per_second", 200))
        self.generated += 1


ENGINE_DIED = {
    "error": {
        "message": "EngineCore encountered an issue. See stack trace (above) for the root cause.",
        "type": "InternalServerError",
        "param": None,
        "code": 500,
    }
}
STOPPING = {
    "error": {"message": "cannot schedule new futures after shutdown", "type": "InternalServerError", "code": 500}
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: Engine

    def log_message(self, text, *args):
        log(f'INFO:     - "{text % args}"')

    def address_string(self):
        return "unix"

    def send(self, status, body):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/health":
            return self.send(503 if self.engine.dead else 200, b"")
        if self.path == "/metrics":
            model = f'{{model_name="{self.engine.model}"}}'
            return self.send(200, f"vllm:num_requests_running{model} {self.engine.running}\n".encode())
        return self.send(404, {"detail": "Not Found"})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        engine = self.engine
        if self.headers.get("Authorization") != f"Bearer {os.environ['VLLM_API_KEY']}":
            return self.send(401, {"error": "Unauthorized"})
        if request.get("model") != engine.model:
            return self.send(404, {"error": {"message": f"The model `{request.get('model')}` does not exist."}})
        if engine.stopping:
            return self.send(500, STOPPING)
        if engine.faults.get("no_tokens"):
            return self.send(500, {"error": {"message": "no kernel image is available", "code": 500}})
        if last_words := engine.faults.get("dies_of_request"):
            log(last_words)
            engine.core.kill()
            return self.send(500, ENGINE_DIED)
        engine.running += 1
        try:
            words = [f"I am {engine.model}."] if "messages" in request else ["x"]
            words = (words * int(request.get("max_tokens") or 1))[: int(request.get("max_tokens") or 1)]
            self.stream(request, words) if request.get("stream") else self.whole(request, words)
        finally:
            engine.running -= 1

    def aborted(self):
        return self.engine.stopping and not self.engine.drain_seconds

    def whole(self, request, words):
        text, reason = "", "length"
        for word in words:
            if self.aborted():
                reason = "abort"
                break
            try:
                self.engine.token()
            except RuntimeError:
                return self.send(500, ENGINE_DIED)
            text += word
        return self.send(200, self.document(request, text, reason, count=len(words)))

    def stream(self, request, words):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in words:
            if self.aborted():
                self.event(self.document(request, "", "abort", delta=True))
                break
            try:
                self.engine.token()
            except RuntimeError:
                self.event(ENGINE_DIED)
                break
            self.event(self.document(request, word, None, delta=True))
        else:
            self.event(self.document(request, "", "length", delta=True))
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, data):
        line = f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def document(self, request, text, reason, *, delta=False, count=0):
        chat = "messages" in request
        if chat:
            content = {"role": "assistant", "content": text}
            choice = {"index": 0, "delta" if delta else "message": content, "finish_reason": reason}
            kind = "chat.completion.chunk" if delta else "chat.completion"
        else:
            choice = {"index": 0, "text": text, "finish_reason": reason}
            kind = "text_completion"
        document = {"id": "x-0", "object": kind, "created": 0, "model": self.engine.model, "choices": [choice]}
        if not delta:
            document["usage"] = {"prompt_tokens": 1, "completion_tokens": count, "total_tokens": count + 1}
        return document


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        """A client that went away is no news."""


def log(line):
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def wait_until_started(engine, faults):
    """Go through the phases of a start; end here when it fails."""
    pid = os.getpid()
    log(f"(APIServer pid={pid}) INFO 11-21 20:42:11 [model.py:733] Resolved architecture: Qwen3ForCausalLM")
    signal.signal(
        signal.SIGTERM, signal.SIG_IGN if faults.get("lose_sigterm") else lambda *_: os._exit(-signal.SIGTERM)
    )
    log(f"(Worker pid={pid}) INFO 11-21 20:42:24 [cpu_model_runner.py:68] Starting to load model {engine.model}...")
    time.sleep(faults.get("startup_seconds", 0.1))
    if "log" in faults or "exit_code" in faults:
        log(faults.get("log", ""))
        if not faults.get("linger"):
            engine.core.send_signal(signal.SIGTERM)
            engine.core.wait()
            engine.shared_memory.unlink()
        while faults.get("linger"):
            time.sleep(60)
        code = faults.get("exit_code", 1)
        if code < 0:
            os.kill(pid, -code)
        os._exit(code)
    log(f"(EngineCore pid={pid}) INFO 11-21 20:42:41 [core.py:402] init engine (profile, warmup model) took")


def serve(faults_path, argv):
    options = dict(word.removeprefix("--").partition("=")[::2] for word in argv if word.startswith("--"))
    faults = json.loads(Path(faults_path).read_text()) if Path(faults_path).exists() else {}
    faults = faults.get(options["served-model-name"], faults.get("*", {}))
    engine = Engine(options, faults, Path(faults_path))
    server = Server(options["uds"], Handler, bind_and_activate=False)
    server.server_bind()  # bound early, listening late: refused until ready
    wait_until_started(engine, faults)
    Handler.engine = engine
    server.server_activate()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    log("INFO:     Application startup complete.")
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    while not asked.wait(0.02):
        if engine.core.poll() is not None or engine_lost_its_worker(engine):
            engine.dead = True
            log("WARNING [shutdown] MPClient: engine core exited unexpectedly; starting cleanup")
            time.sleep(LAST_WORDS_SECONDS)
            os._exit(0)
    engine.stopping = True
    end = time.monotonic() + engine.drain_seconds
    while engine.running and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.1)
    engine.core.terminate()
    engine.core.wait()
    engine.shared_memory.unlink()
    os._exit(0)


def engine_lost_its_worker(engine):
    children = Path(f"/proc/{engine.core.pid}/task/{engine.core.pid}/children").read_text().split()
    states = [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] for child in children]
    return bool(children) and all(state == "Z" for state in states)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--worker", shared_memory]:
            worker(shared_memory)
        case ["--core", shared_memory]:
            core(shared_memory)
        case [faults_path, "serve", *argv]:
            serve(faults_path, argv)
