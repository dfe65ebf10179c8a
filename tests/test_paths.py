import os
import subprocess
import sys
from pathlib import Path

import pytest

from selfhost import paths
from selfhost.errors import SelfhostError


def test_directories_follow_their_variables(isolated: Path) -> None:
    assert paths.home_dir() == isolated / "home"
    assert paths.state_dir("box") == isolated / "state" / "box"
    assert paths.runtime_dir("box") == isolated / "runtime" / "box"


def test_without_variables_the_xdg_places_hold_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("SELFHOST_HOME", "SELFHOST_STATE", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "/home/ann")
    assert paths.home_dir() == Path("/home/ann/.local/share/selfhost")
    assert paths.state_dir("box") == Path("/home/ann/.local/state/selfhost/box")


@pytest.mark.parametrize(
    "variables",
    [{}, {"HF_HOME": "/data/hf"}, {"HF_HUB_CACHE": "/data/cache"}, {"XDG_CACHE_HOME": "/data/xdg"}],
)
def test_weights_are_where_the_hub_client_keeps_them(monkeypatch: pytest.MonkeyPatch, variables: dict) -> None:
    for variable in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    code = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    client = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert str(paths.hub_cache_dir()) == client.stdout.strip()


def test_private_directories_are_for_this_user_alone(isolated: Path) -> None:
    loose = isolated / "loose"
    loose.mkdir(mode=0o755)
    assert paths.make_private(loose).stat().st_mode & 0o777 == 0o700


def test_a_link_in_the_place_of_a_private_directory_is_refused(isolated: Path) -> None:
    (isolated / "link").symlink_to(isolated)
    with pytest.raises(SelfhostError, match="is not a directory of this user"):
        paths.make_private(isolated / "link")


def test_a_file_in_the_way_is_named(isolated: Path) -> None:
    (isolated / "file").touch()
    with pytest.raises(SelfhostError, match="cannot create the directory"):
        paths.make_private(isolated / "file" / "sub")


@pytest.fixture
def runtime_root(isolated: Path) -> Path:
    root = isolated / "runtime"
    root.mkdir()
    return root


def make_loose(root: Path) -> None:
    root.chmod(0o777)


def give_away(root: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a directory away")
    os.chown(root, 12345, -1)


@pytest.mark.parametrize(
    "spoil, words", [(make_loose, "other users can write into"), (give_away, "is not a directory of this user")]
)
@pytest.mark.parametrize("act", [paths.make_private, paths.require_private])
def test_a_runtime_root_of_somebody_else_is_refused(runtime_root: Path, spoil, words: str, act) -> None:
    spoil(runtime_root)
    with pytest.raises(SelfhostError, match=words):
        act(paths.runtime_dir("box"))
    assert not paths.runtime_dir("box").exists()


@pytest.mark.parametrize("spoil", [make_loose, give_away])
def test_nothing_in_a_runtime_folder_of_somebody_else_is_trusted(runtime_root: Path, spoil) -> None:
    folder = runtime_root / "box"
    folder.mkdir()
    spoil(folder)
    with pytest.raises(SelfhostError):
        paths.require_private(folder)


def test_a_sticky_folder_of_the_system_may_hold_ours(runtime_root: Path) -> None:
    runtime_root.chmod(0o1777)
    assert paths.make_private(paths.runtime_dir("box")).stat().st_mode & 0o777 == 0o700
    paths.require_private(paths.runtime_dir("box"))


def test_what_is_not_there_yet_is_nobody_elses() -> None:
    paths.require_private(paths.runtime_dir("box"))


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.delenv("SELFHOST_HOME")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    with pytest.raises(SelfhostError, match="this user has no home directory") as caught:
        paths.home_dir()
    assert "export HOME=" in str(caught.value.hint)
