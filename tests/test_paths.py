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
