import json
import os
import subprocess
import sys

import pytest


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("version: 1\nname: box\nmodels: [{name: chat, source: demo-a}]\n")
    return path


def test_a_key_is_shown_once_and_only_its_hash_is_kept(selfhost, manifest, isolated) -> None:
    assert (
        selfhost("keys", "list", "-f", manifest).stderr
        == "there are no keys, and requests from this machine need none\n"
    )
    created = selfhost("keys", "create", "ci", "-f", manifest)
    key = created.stdout.strip()
    assert key.startswith("sk-selfhost-")
    assert "it is shown only now" in created.stderr
    stored = (isolated / "state/box/keys.json").read_text()
    assert key not in stored
    (shown,) = json.loads(selfhost("keys", "list", "-f", manifest, "--json").stdout)["keys"]
    assert set(shown) == {"id", "name", "created", "revoked"}
    assert shown["name"] == "ci"


def test_a_revoked_key_stays_in_the_list(selfhost, manifest) -> None:
    selfhost("keys", "create", "ci", "-f", manifest)
    assert selfhost("keys", "revoke", "ci", "-f", manifest).code == 0
    header, line = selfhost("keys", "list", "-f", manifest).stdout.splitlines()
    assert header.split() == ["ID", "NAME", "CREATED", "REVOKED"]
    assert len(line.split()) == 4
    assert selfhost("keys", "create", "ci", "-f", manifest).code == 0  # the name is free again


@pytest.mark.parametrize(
    "args, words",
    [
        (("create", "not a name"), "cannot be the name of a key"),
        (("revoke", "nobody"), "there is no active key 'nobody'"),
    ],
)
def test_wrong_names_get_a_sentence(selfhost, manifest, args, words: str) -> None:
    ran = selfhost("keys", *args, "-f", manifest)
    assert (ran.code, ran.stdout) == (1, "")
    assert words in ran.stderr


def test_a_name_is_taken_once(selfhost, manifest) -> None:
    selfhost("keys", "create", "ci", "-f", manifest)
    assert "there is already a key named 'ci'" in selfhost("keys", "create", "ci", "-f", manifest).stderr


def test_a_damaged_store_is_named_and_kept(selfhost, manifest, isolated) -> None:
    store = isolated / "state/box/keys.json"
    store.parent.mkdir(parents=True)
    store.write_text("{")
    for verb in (("list",), ("create", "ci"), ("revoke", "ci")):
        ran = selfhost("keys", *verb, "-f", manifest)
        assert ran.code == 1
        assert str(store) in ran.stderr
    assert store.read_text() == "{"


@pytest.mark.parametrize(
    "redirection, words",
    [
        (">/dev/full", "cannot write to standard output: No space left on device"),
        (">&-", "standard output is closed"),
        ("", "cannot write to standard output: Broken pipe"),
    ],
)
def test_a_key_that_nobody_could_see_does_not_exist(manifest, isolated, redirection: str, words: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m selfhost keys create ci -f {manifest} {redirection}"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"error: {words}\nhint: ")
    assert "created" not in ran.stderr
    assert not (isolated / "state/box/keys.json").exists()


def test_a_full_disk_behind_standard_output_is_a_sentence() -> None:
    ran = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m selfhost version >/dev/full"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: cannot write to standard output: No space left on device\n")
