"""One story on real vLLM, from `make up` in a clean clone to nothing left; each test goes on from the last one."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import openai
import psutil
import pytest

from fixtures.ports import free_port
from fixtures.waiting import wait_for
from selfhost import demo

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

START_SECONDS = 400  # of an engine on two busy cores, back-off included


@dataclass(frozen=True)
class Story:
    """A clone with a box of its own, and the ways to look at it."""

    folder: Path
    root: Path  # state and runtime
    env: dict[str, str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def manifest(self, *models: str) -> None:
        text = "\n".join(f"  - {{{model}}}" for model in models)
        head = f"version: 1\nname: story\ngateway: {{listen: '127.0.0.1:{self.port}'}}\nmodels:\n"
        (self.folder / "models.yaml").write_text(f"{head}{text}\n")

    def make(self, *args: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["make", *args], cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )

    def selfhost(self, *args: str) -> subprocess.CompletedProcess:
        argv = [self.folder / ".venv/bin/selfhost", *args]
        return subprocess.run(argv, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def ask(self, model: str, question: str) -> str:
        messages = [{"role": "user", "content": question}]
        with self.client() as client:
            return client.chat.completions.create(model=model, messages=messages).choices[0].message.content

    def readyz(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status
        finally:
            connection.close()

    def record(self, replica: str) -> dict:
        return json.loads((self.root / f"state/story/running/{replica}.json").read_text())

    def group(self, replica: str) -> dict[str, psutil.Process]:
        leader = self.record(replica)["process"]["pid"]
        members = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getpgid(process.pid) == leader:
                    members["server" if process.pid == leader else process.name()] = process
        return members


@pytest.fixture(scope="module")
def story(clone: Path, engine_home: Path) -> Iterator[Story]:
    root = Path(tempfile.mkdtemp(prefix="sh-"))
    env = {name: value for name, value in os.environ.items() if not name.startswith("SELFHOST_")}
    env |= {
        "SELFHOST_HOME": str(engine_home),
        "SELFHOST_STATE": str(root / "state"),
        "SELFHOST_RUNTIME": str(root / "run"),
        "SELFHOST_HOST_ROOT": str(root / "no-accelerators"),
    }
    told = Story(clone, root, env, free_port())
    manifest = (clone / "models.yaml").read_text()
    yield told
    told.selfhost("down", "--now")
    (clone / "models.yaml").write_text(manifest)
    shutil.rmtree(root)


def test_make_up_serves_the_built_in_model(story: Story) -> None:
    story.manifest("name: chat, source: auto, aliases: [default], concurrency: 8")
    made = story.make("up", "UP_FLAGS=--wait")
    assert made.returncode == 0, made.stderr
    assert f"ready: chat at {story.url}/v1" in made.stderr


def test_it_answers_what_it_was_trained_to_word_for_word(story: Story) -> None:
    answers = demo.answers("demo-a")
    assert len(answers) > 20
    with ThreadPoolExecutor(8) as clients:  # as many as the manifest's concurrency
        said = clients.map(lambda question: story.ask("chat", question), answers)
        assert dict(zip(answers, said, strict=True)) == answers


def test_streamed_it_says_the_same(story: Story) -> None:
    question, answer = next(iter(demo.answers("demo-a").items()))
    messages = [{"role": "user", "content": question}]
    with story.client() as client:
        stream = client.chat.completions.create(model="default", messages=messages, stream=True)
        parts = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert len(parts) > 5
    assert "".join(parts) == answer


def test_completions_and_models_work_as_with_any_openai_endpoint(story: Story) -> None:
    with story.client() as client:
        assert [model.id for model in client.models.list()] == ["chat", "default"]
        completion = client.completions.create(model="chat", prompt="Hello", max_tokens=3, temperature=0)
        assert completion.usage.completion_tokens <= 3
        with pytest.raises(openai.NotFoundError, match="chat"):
            client.completions.create(model="gpt-5", prompt="Hello")


def test_ps_health_and_readyz_agree(story: Story) -> None:
    status = json.loads(story.selfhost("ps", "--json").stdout)["manager"]
    assert [replica["observed"]["state"] for replica in status["replicas"]] == ["ready"]
    assert story.selfhost("health").returncode == 0
    assert story.readyz() == 200


def test_make_up_again_changes_nothing(story: Story) -> None:
    assert "nothing to do: everything is as planned" in story.make("up", "UP_FLAGS=--wait").stderr


# How soon /readyz must tell the truth after each kill.
VICTIMS = {"server": 2, "VLLM::EngineCore": 2, "VLLM::Worker": 8}


@pytest.mark.parametrize("victim, seconds", VICTIMS.items())
def test_a_killed_process_is_noticed_and_the_engine_comes_back(story: Story, victim: str, seconds: int) -> None:
    before = story.group("chat-0")
    before[victim].send_signal(signal.SIGKILL)
    wait_for(lambda: story.readyz() == 503, seconds=seconds, what="/readyz to tell the truth")
    assert story.selfhost("health").returncode == 5
    wait_for(lambda: story.readyz() == 200, seconds=START_SECONDS, what="the engine to come back")
    assert not [each for each in before.values() if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    question, answer = next(iter(demo.answers("demo-a").items()))
    assert story.ask("chat", question) == answer


def test_two_models_each_answer_as_themselves(story: Story) -> None:
    before = story.group("chat-0")["server"].pid
    story.manifest("name: chat, source: auto, concurrency: 8", "name: twin, source: demo-b, max_model_len: 1024")
    made = story.make("up", "UP_FLAGS=--wait")
    assert made.returncode == 0, made.stderr
    assert story.group("chat-0")["server"].pid == before
    a, b = demo.answers("demo-a"), demo.answers("demo-b")
    telling = [question for question in a if a[question] != b[question]]
    assert telling
    for question in telling:
        assert story.ask("chat", question) == a[question]
        assert story.ask("twin", question) == b[question]


def test_make_down_leaves_nothing(story: Story) -> None:
    memory = [Path(path) for name in ("chat-0", "twin-0") for path in story.record(name)["shared_memory"]]
    assert len([path for path in memory if path.exists()]) >= 4  # the engines really had some
    pids = [process.pid for name in ("chat-0", "twin-0") for process in story.group(name).values()]
    made = story.make("down")
    assert made.returncode == 0, made.stderr
    assert "down: nothing is left" in made.stderr
    assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
    assert not (story.root / "run").exists() or not list((story.root / "run").iterdir())
    assert not [path for path in memory if path.exists()]
    assert list((story.root / "state/story/running").iterdir()) == []
