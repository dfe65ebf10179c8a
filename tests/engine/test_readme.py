"""Everything that README.md tells a newcomer to type is typed here, in its order, in a clean clone."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.clone import ROOT
from fixtures.ports import free_port

README = (ROOT / "README.md").read_text()
MOST_GPU_BLOCKS = 5


def blocks(tag: str) -> list[str]:
    """The fenced blocks whose info string is exactly `tag`."""
    return re.findall(rf"^```{re.escape(tag)}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_only_few_commands_need_a_gpu() -> None:
    assert len(blocks("sh gpu")) <= MOST_GPU_BLOCKS


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    kinds = set(re.findall(r"^```(.+)$", README, re.MULTILINE))
    assert kinds <= {"sh", "sh gpu", "yaml"}


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_manifest_is_right(selfhost, tmp_path: Path, text: str) -> None:
    (tmp_path / "models.yaml").write_text(text)
    ran = selfhost("check", "-f", tmp_path / "models.yaml")
    assert ran.code == 0, ran.stderr


def test_every_command_of_the_table_exists(selfhost) -> None:
    for line in README.splitlines():
        if line.startswith("| `selfhost "):
            for verb in re.findall(r"`(?:selfhost )?([a-z]+)`", line.split("|")[1]):
                assert selfhost(verb, "--help").code == 0


# `make up` stays in the foreground: the reader opens another terminal when it says ready, and so does the script.
FOREGROUND = """\
make up >up.log 2>&1 &
until grep -q '^ready: ' up.log; do kill -0 $! || { cat up.log; exit 1; }; sleep 0.5; done
"""


@pytest.fixture
def newcomer(isolated: Path, clone: Path, engine_home: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody new: an empty home; what was downloaded before is only a cache."""
    home = Path(tempfile.mkdtemp(prefix="sh-home-"))
    if (config := Path.home() / ".config").exists():
        (home / ".config").symlink_to(config)  # how this machine reaches its package index
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SELFHOST_", "HF_", "XDG_"))}
    env |= {
        "HOME": str(home),
        "SELFHOST_RUNTIME": str(isolated / "run"),
        "SELFHOST_HOST_ROOT": str(isolated / "host_root"),
        "PIP_CACHE_DIR": str(Path.home() / ".cache/pip"),
        "UV_CACHE_DIR": str(engine_home / "cache/uv"),
    }
    yield env
    subprocess.run(["make", "down"], cwd=clone, env=env, check=False, capture_output=True)
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.engine
@pytest.mark.timeout(1200)
def test_the_commands_work_in_a_clean_clone(newcomer: dict[str, str], clone: Path) -> None:
    port = free_port()
    manifest = clone / "models.yaml"
    before = manifest.read_text()
    manifest.write_text(f"{before}\ngateway: {{listen: 127.0.0.1:{port}}}\n")
    script = ["set -euo pipefail"]
    for line in "".join(blocks("sh")).replace("127.0.0.1:8000", f"127.0.0.1:{port}").splitlines():
        script.append(f"echo '$' {re.escape(line)} >&2")
        script.append(FOREGROUND if line == "make up" else line)
    ran = subprocess.run(
        ["/bin/bash", "-c", "\n".join(script)], cwd=clone, env=newcomer, capture_output=True, text=True, check=False
    )
    manifest.write_text(before)
    assert ran.returncode == 0, f"{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    assert '"content":"I answer short questions about selfhost.' in ran.stdout
    home = Path(newcomer["HOME"])
    assert not (home / ".local/share/selfhost").exists()
    assert not (home / ".local/state/selfhost").exists()
    runtime = Path(newcomer["SELFHOST_RUNTIME"])
    assert not runtime.exists() or not list(runtime.iterdir())
