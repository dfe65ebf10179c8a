import subprocess
import sys

import click
import pytest

from selfhost.cli.main import VERBS, cli, run
from selfhost.errors import BlockedError

HEAVY = {"torch", "vllm", "ray", "transformers"}


def test_help_imports_no_verb_and_nothing_heavy() -> None:
    code = "import sys; from selfhost.cli.main import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stderr.split())
    assert not loaded & (HEAVY | {"pydantic", "yaml", "rich", "aiohttp", "huggingface_hub"})


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_the_help_that_the_list_shows_and_examples(selfhost, verb: str) -> None:
    command = cli.get_command(None, verb)
    assert command.help.splitlines()[0] == VERBS[verb][1]
    subcommands = command.list_commands(None) if isinstance(command, click.Group) else []
    for words in ([verb], *([verb, subcommand] for subcommand in subcommands)):
        shown = selfhost(*words, "--help")
        assert shown.code == 0
        assert f"selfhost {' '.join(words)}" in shown.stdout.partition("Examples:")[2]


def test_an_unknown_verb_is_a_usage_error_with_the_nearest_one(selfhost) -> None:
    ran = selfhost("versoin")
    assert ran.code == 2
    assert "No such command 'versoin'. Did you mean 'version'?" in ran.stderr


def test_errors_become_a_sentence_a_hint_and_their_exit_code(selfhost, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise BlockedError("it does not fit", hint="take a smaller one")

    monkeypatch.setattr(cli.get_command(None, "version"), "callback", refuse)
    ran = selfhost("version")
    assert (ran.code, ran.stdout) == (4, "")
    assert ran.stderr == "error: it does not fit\nhint: take a smaller one\n"


def test_a_defect_is_one_sentence_and_a_traceback_only_when_asked(selfhost, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(cli.get_command(None, "version"), "callback", fail)
    assert "Traceback" not in selfhost("version").stderr
    ran = selfhost("--debug", "version")
    assert ran.code == 1
    assert "internal error: ZeroDivisionError: oops" in ran.stderr
    assert "Traceback" in ran.stderr


def test_interrupts_end_with_130(selfhost, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.get_command(None, "version"), "callback", interrupt)
    assert selfhost("version").code == 130


def test_a_reader_that_leaves_early_is_no_error() -> None:
    ran = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m selfhost version | true"], capture_output=True, text=True, check=True
    )
    assert ran.stderr == ""


def test_run_returns_plain_success() -> None:
    assert run(["--version"]) == 0
