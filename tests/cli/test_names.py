"""The verbs that must work when the manifest does not."""

import json
import os
from pathlib import Path

import pytest

from selfhost.cli.pipeline import key_store

VERBS = (("down",), ("ps",), ("logs",), ("health",), ("keys", "revoke", "ci"))


@pytest.fixture(autouse=True)
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.yaml").write_text("version: 1\nmodels: [{nme: chat}]\n")


@pytest.mark.parametrize("verb", VERBS)
def test_a_broken_manifest_is_named_with_the_way_round_it(selfhost, verb: tuple[str, ...]) -> None:
    ran = selfhost(*verb)
    assert ran.code == (5 if verb == ("health",) else 1)
    assert "models.0.nme: unknown key" in ran.stderr
    words = " ".join(verb[:2])
    assert f"hint: selfhost {words} --name NAME needs no manifest" in ran.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_a_name_that_no_manifest_can_have_is_a_usage_error(selfhost, verb: tuple[str, ...]) -> None:
    ran = selfhost(*verb, "--name", "../box")
    assert ran.code == 2
    assert "'../box' cannot be the name of a manifest" in ran.stderr


def test_with_its_name_everything_works_without_the_manifest(selfhost) -> None:
    assert selfhost("down", "--name", "box").stderr == "nothing runs for 'box'\n"
    assert json.loads(selfhost("ps", "--name", "box", "--json").stdout)["manager"] is None
    key_store("box").create("ci")
    assert selfhost("keys", "revoke", "ci", "--name", "box").code == 0
    assert "'box' has no logs yet" in selfhost("logs", "--name", "box").stderr
    for model in ("chat-0", "my-model-1"):
        folder = Path(os.environ["SELFHOST_STATE"]) / "box/logs" / model
        folder.mkdir(parents=True)
        (folder / "1.log").write_text(f"I am {model}\n")
    assert selfhost("logs", "--name", "box", "my-model").stdout == "I am my-model-1\n"
    assert selfhost("logs", "--name", "box").stdout == "chat/0 | I am chat-0\nmy-model/1 | I am my-model-1\n"
