"""A Hugging Face Hub on a local port: what the unmodified client asks for, and the faults it meets. Standard library.

    with Hub() as hub:
        hub.add("acme/tiny", {"config.json": b"{}", "model.safetensors": b"..."})
        ... HF_ENDPOINT=hub.url, set before huggingface_hub is imported ...
        hub.fault(path=r"safetensors", method="GET", drop_after=1000, times=1)

Serves revisions, listings, file heads and bodies (with ranges), and the storage that large files redirect to, which is
another origin on purpose: the client follows redirects within one origin itself and would then miss X-Repo-Commit.
`hub.requests` remembers everything that was asked.
"""

import fnmatch
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import unquote, urlsplit

LARGE = ("*.safetensors", "*.bin")


def git_object_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass
class File:
    data: bytes
    large: bool  # stored beside git (LFS): its id is that of a pointer

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def object_id(self) -> str:
        if not self.large:
            return git_object_id(self.data)
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n"
        return git_object_id(pointer.encode())


@dataclass
class Repository:
    files: dict[str, File]
    commit: str
    gated: bool = False  # its files need a token of `allowed`; its listing is public
    private: bool = False  # without such a token it does not seem to exist
    allowed: tuple[str, ...] = ()


@dataclass
class Fault:
    """What goes wrong for requests whose path matches; the first fault that still has times left counts."""

    path: str
    method: str | None = None
    times: int = 1 << 30
    status: int | None = None
    drop_after: int | None = None  # close after so many bytes of the body
    delay_seconds: float = 0
    bytes_per_second: int | None = None
    portal: bool = False  # a captive portal: HTML with status 200
    hits: int = 0


@dataclass
class Hub:
    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Quiet."""

            def do_GET(self) -> None:
                hub._answer(self)

            do_HEAD = do_POST = do_GET  # noqa: N815 (the names http.server asks for)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client that went away is no news."""

        self._server = Server(("127.0.0.1", 0), Handler)
        port = self._server.server_address[1]
        self.url, self._storage_url = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def add(self, name: str, files: dict[str, bytes], **properties: object) -> Repository:
        held = {path: File(data, any(fnmatch.fnmatch(path, glob) for glob in LARGE)) for path, data in files.items()}
        summary = repr(sorted((path, file.sha256) for path, file in held.items()))
        commit = hashlib.sha1(summary.encode(), usedforsecurity=False).hexdigest()
        self.repositories[name] = Repository(held, commit, **properties)
        return self.repositories[name]

    def fault(self, **properties: object) -> Fault:
        self.faults.append(Fault(**properties))
        return self.faults[-1]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(handler.path).path)
        self.requests.append((handler.command, path))
        fault = next((each for each in self.faults if self._hits(each, handler)), None)
        if fault:
            fault.hits += 1
            time.sleep(fault.delay_seconds)
            if fault.status:
                return _json(handler, {"error": f"injected {fault.status}"}, status=fault.status)
            if fault.portal:
                return _send(handler, 200, {"Content-Type": "text/html"}, b"<html>please log in</html>")
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        if found := re.fullmatch(r"/storage/([0-9a-f]{64})", path):
            files = [file for each in self.repositories.values() for file in each.files.values()]
            data = next(file.data for file in files if file.sha256 == found[1])
            return _ranged(handler, data, fault)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/.*)?", path):
            return self._describe(handler, found[1], found[2] or "", token)
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(handler, *found.groups(), token=token, fault=fault)
        return _error(handler, 404, None, "Not Found")

    @staticmethod
    def _hits(fault: Fault, handler: BaseHTTPRequestHandler) -> bool:
        return (
            fault.hits < fault.times
            and re.search(fault.path, handler.path) is not None
            and fault.method in (None, handler.command)
        )

    def _find(self, handler: BaseHTTPRequestHandler, name: str, revision: str, token: str) -> Repository | None:
        repository = self.repositories.get(name)
        if repository is None or (repository.private and token not in repository.allowed):
            _error(handler, 404 if token else 401, "RepoNotFound", "Repository not found")
            return None
        if revision not in ("main", repository.commit):
            _error(handler, 404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository

    def _describe(self, handler: BaseHTTPRequestHandler, name: str, rest: str, token: str) -> None:
        kind, _, revision = rest.strip("/").partition("/")
        repository = self._find(handler, name, revision or "main", token)
        if repository is None:
            return
        if kind == "tree":
            _json(handler, [_entry(path, file) for path, file in repository.files.items()])
        else:
            siblings = [{"rfilename": path, "size": len(file.data)} for path, file in repository.files.items()]
            _json(handler, {"id": name, "sha": repository.commit, "siblings": siblings})

    def _resolve(
        self, handler: BaseHTTPRequestHandler, name: str, revision: str, path: str, *, token: str, fault: Fault | None
    ) -> None:
        repository = self._find(handler, name, revision, token)
        if repository is None:
            return
        if repository.gated and token not in repository.allowed:
            _error(handler, 403 if token else 401, "GatedRepo", f"Access to model {name} is restricted.")
            return
        file = repository.files.get(path)
        if file is None:
            _error(handler, 404, "EntryNotFound", "Entry not found")
            return
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{file.object_id}"'}
        if file.large:
            headers |= {
                "X-Linked-Etag": f'"{file.sha256}"',
                "X-Linked-Size": str(len(file.data)),
                "Location": f"{self._storage_url}/storage/{file.sha256}",
            }
            _send(handler, 302, headers, b"")
        else:
            _ranged(handler, file.data, fault, headers)


def _entry(path: str, file: File) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": path, "size": len(file.data), "oid": file.object_id}
    if file.large:
        entry["lfs"] = {"oid": file.sha256, "size": len(file.data), "pointerSize": 134}
    return entry


def _error(handler: BaseHTTPRequestHandler, status: int, code: str | None, message: str) -> None:
    headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    _send(handler, status, {**headers, "Content-Type": "application/json"}, json.dumps({"error": message}).encode())


def _json(handler: BaseHTTPRequestHandler, document: object, *, status: int = 200) -> None:
    _send(handler, status, {"Content-Type": "application/json"}, json.dumps(document).encode())


def _ranged(
    handler: BaseHTTPRequestHandler, data: bytes, fault: Fault | None, headers: dict[str, str] | None = None
) -> None:
    status, part, headers = 200, data, dict(headers or {})
    if found := re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", "")):
        first, last = int(found[1]), min(int(found[2] or len(data) - 1), len(data) - 1)
        status, part = 206, data[first : last + 1]
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    _send(handler, status, headers, part, fault)


def _send(
    handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes, fault: Fault | None = None
) -> None:
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command == "HEAD":
        return
    if fault is None:
        handler.wfile.write(body)
        return
    step = max(1, (fault.bytes_per_second or 1 << 30) // 20)
    end = len(body) if fault.drop_after is None else min(fault.drop_after, len(body))
    for begin in range(0, end, step):
        handler.wfile.write(body[begin : min(begin + step, end)])
        handler.wfile.flush()
        if fault.bytes_per_second:
            time.sleep(0.05)
    if end < len(body):
        handler.close_connection = True
        handler.connection.close()
