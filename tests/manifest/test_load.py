import os
import socket
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from selfhost.manifest.load import MAX_BYTES, STDIN, load_manifest, name_of_folder
from selfhost.manifest.problems import MAX_SHOWN, ManifestError
from selfhost.manifest.schema import ApiKey, Engine, Gateway, Manifest, Model
from selfhost.manifest.values import Listen

DATA = Path(__file__).parent / "data"
HASH = "ab" * 32
SMALLEST = "version: 1\nmodels: [{name: chat}]\n"


def test_every_field_arrives(load, folder: Path) -> None:
    manifest = load(
        f"""
        version: 1
        name: box
        gateway:
          listen: 0.0.0.0:9000
          keys:
            - {{name: ci, sha256: {HASH.upper()}}}
        engine:
          vllm: "0.32.1"
          python: venv/bin/python
        models:
          - name: chat
            source: Qwen/Qwen3-8B
            revision: v2
            max_model_len: 32768
            concurrency: 16
            replicas: 2
            tensor_parallel_size: 4
            gpu_memory_utilization: 1
            aliases: [default, gpt-4o]
            engine_args:
              max_num_seqs: 64
              enable-prefix-caching: true
              cudagraph-capture-sizes: [1, 2]
          - name: other
            tensor_parallel_size: auto
        """
    )
    assert manifest == Manifest(
        version=1,
        name="box",
        gateway=Gateway(listen=Listen("0.0.0.0", 9000), keys=(ApiKey(name="ci", sha256=HASH),)),
        engine=Engine(vllm="0.32.1", python=folder / "venv/bin/python"),
        models=(
            Model(
                name="chat",
                source="Qwen/Qwen3-8B",
                revision="v2",
                max_model_len=32768,
                concurrency=16,
                replicas=2,
                tensor_parallel_size=4,
                gpu_memory_utilization=1.0,
                aliases=("default", "gpt-4o"),
                engine_args={"max-num-seqs": 64, "enable-prefix-caching": True, "cudagraph-capture-sizes": (1, 2)},
            ),
            Model(name="other"),
        ),
    )


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_lines() -> None:
    with pytest.raises(ManifestError) as raised:
        load_manifest(DATA / "broken.yaml", environ={"SECRET": "s3cret"})
    assert raised.value.message.replace(f"{DATA}/", "") == (DATA / "broken.txt").read_text().rstrip()


@pytest.mark.parametrize(
    "text, line",
    [
        ("{}", "1: version: is required"),
        ("version: 1", "1: models: is required"),
        ("version: 1\nmodels: []", "2: models: has no entry; a manifest serves at least one model"),
        ("version: 1\nmodels:", "2: models: has no value; write one, or leave the key out"),
        ("version: 1\nmodels: {chat: {}}", "2: models: should be a list (lines that begin with '-'), not a mapping"),
        (
            "version: true\nmodels: [{name: a}]",
            "1: version: should be 1, not `true`, which YAML reads as true or false",
        ),
        ("- version: 1", "1: should be a mapping (`key: value` lines), not a list"),
        ("version", "1: should be a mapping (`key: value` lines), not 'version'"),
        (f"{SMALLEST}gateway:\n  keys:\n", "4: gateway.keys: has no value; write one, or leave the key out"),
        (f"{SMALLEST}gateway: {{name: a}}", "3: gateway.name: unknown key; it belongs to the top level"),
        (f"{SMALLEST}gateway: {{zzz: a}}", "3: gateway.zzz: unknown key; known here: listen, keys"),
        (f'{SMALLEST}engine: {{vllm: "0.31.0"}}', "3: engine.vllm: should be 0.32.0 or newer, not '0.31.0'; "),
        (f'{SMALLEST}engine: {{vllm: "0.33"}}', "3: engine.vllm: should be one release of vLLM with all its numbers, "),
        (f"{SMALLEST}engine: {{python: ''}}", "3: engine.python: should be the path of a Python interpreter, not ''"),
        ("version: 1\nmodels: [{name: a, aliases: [a]}]", "2: models.0.aliases.0: is already the name of models.0"),
        ("version: 1\nmodels: [{name: a, aliases: [b, b]}]", "2: models.0.aliases.1: is already an alias of models.0"),
        (
            "version: 1\nmodels: [{name: a, aliases: [b]}, {name: b}]",
            "2: models.1.name: is already an alias of models.0",
        ),
        ("version: 1\nmodels: [{name: a, gpu_memory_utilization: 0}]", "should be more than 0, not the number 0"),
        ("version: 1\nmodels: [{name: a, replicas: 1001}]", "should be at most 1000, not the number 1001"),
        ("version: 1\nmodels: [{name: a, concurrency: 99999999999}]", "should be at most 2147483647, not the number"),
    ],
)
def test_one_thing_that_is_wrong(problems, text: str, line: str) -> None:
    assert line in problems(text)[0]


def test_many_problems_are_counted_and_the_first_of_them_shown(load) -> None:
    with pytest.raises(ManifestError) as raised:
        load(SMALLEST + "".join(f"zzz{number}: 1\n" for number in range(MAX_SHOWN + 7)))
    first, *lines, last = raised.value.message.splitlines()
    assert first.endswith(f"models.yaml has {MAX_SHOWN + 7} problems")
    assert (len(lines), last) == (MAX_SHOWN, "... and 7 more")


@pytest.mark.parametrize(
    "text, environ, aliases",
    [
        ("[a]", {}, ("a",)),
        ("['${env:A}']", {"A": "x"}, ("x",)),
        ("['a-${env:A}-${env:B}', '${env:A}${env:A}']", {"A": "x", "B": "y"}, ("a-x-y", "xx")),
        ("\n  - ${env:A}", {"A": "x"}, ("x",)),
        ("['${env:A}']", {"A": "no"}, ("no",)),  # text, whatever YAML would make of it
    ],
)
def test_text_may_come_from_the_environment(load, text: str, environ: dict[str, str], aliases: tuple[str]) -> None:
    manifest = load(f"version: 1\nmodels:\n- name: chat\n  aliases: {text}\n", **environ)
    assert manifest.models[0].aliases == aliases


@pytest.mark.parametrize(
    "value, template",
    [
        ("$${env:A}", "${env:A}"),
        ("$A $ {} $${", "$A $ {} ${"),
        ("$$${env:A}", "$${env:A}"),
    ],
)
def test_what_is_no_reference_stays_as_it_is(load, value: str, template: str) -> None:
    manifest = load(f"version: 1\nmodels: [{{name: a, engine_args: {{chat-template: '{value}'}}}}]", A="x")
    assert manifest.models[0].engine_args == {"chat-template": template}


@pytest.mark.parametrize(
    "value, sentence",
    [
        ("${env:A}", "needs A, not set in the environment"),
        ("${env:A}${env:B}${env:A}", "needs A and B, not set in the environment"),
        ("${HOME}", "has a `${` that does not begin `${env:NAME}`; write `$${` for `${` itself"),
        ("${env:}", "has a `${` that does not begin `${env:NAME}`; write `$${` for `${` itself"),
        ("${env:A B}", "has a `${` that does not begin `${env:NAME}`; write `$${` for `${` itself"),
        ("${env:SECRET}", "or digit first, not '${env:SECRET}'"),
    ],
)
def test_no_value_of_the_environment_is_ever_shown(problems, value: str, sentence: str) -> None:
    lines = problems(f"version: 1\nmodels: [{{name: a, aliases: ['{value}']}}]", SECRET="my secret!")
    assert [sentence in line for line in lines] == [True]
    assert "my secret!" not in lines[0]


@pytest.mark.parametrize(
    "source, absolute",
    [
        ("./chat", "{folder}/chat"),
        ("../chat", "{parent}/chat"),
        ("/srv/chat/", "/srv/chat"),
        ("~/chat", "{home}/chat"),
        ("org/name", "org/name"),
        ("auto", "auto"),
    ],
)
def test_relative_paths_start_at_the_folder_of_the_manifest(
    load, folder: Path, monkeypatch: pytest.MonkeyPatch, source: str, absolute: str
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    manifest = load(f"version: 1\nmodels: [{{name: a, source: {source}}}]")
    expected = absolute.format(folder=folder, parent=folder.parent, home="/home/somebody")
    assert manifest.models[0].source == expected


def test_an_interpreter_that_is_a_link_stays_one(load, folder: Path) -> None:
    (folder / "python").symlink_to(sys.executable)
    assert load(f"{SMALLEST}engine: {{python: ./python}}").engine.python == folder / "python"


@pytest.mark.parametrize(
    "folder, name",
    [
        ("box", "box"),
        ("My Box", "my-box"),
        ("my_box (2)", "my-box-2"),
        ("v1.2", "v1.2"),
        (".hidden", "hidden"),
        ("模型", "selfhost"),
        ("", "selfhost"),
        ("x" * 39 + "-y", "x" * 39),
    ],
)
def test_a_manifest_without_a_name_has_that_of_its_folder(folder: str, name: str) -> None:
    assert name_of_folder(Path("/srv") / folder if folder else Path("/")) == name


def test_the_name_is_that_of_the_folder_wherever_the_command_runs(
    load, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(SMALLEST).name == "my-box"
    monkeypatch.chdir(folder)
    assert load_manifest(Path("models.yaml"), environ={}).name == "my-box"


@pytest.mark.parametrize(
    "content",
    [
        SMALLEST.encode(),
        b"\xef\xbb\xbf" + SMALLEST.encode(),
        SMALLEST.replace("\n", "\r\n").encode(),
        SMALLEST.encode() + b"#" * (MAX_BYTES - len(SMALLEST)),
    ],
    ids=["plain", "BOM", "CRLF", "1 MiB"],
)
def test_what_editors_do_to_files(load, content: bytes) -> None:
    assert load(content).models == (Model(name="chat"),)


@pytest.mark.parametrize(
    "content, line",
    [
        (b"", "models.yaml: is empty; a manifest begins with `version: 1`"),
        (b"# nothing\n", "models.yaml: is empty; a manifest begins with `version: 1`"),
        (b"version: 1\n# caf\xe9\n", "models.yaml:2: byte 16 (0xe9) is not UTF-8; save it as UTF-8"),
        ("version: 1".encode("utf-16"), "models.yaml: is UTF-16; save it as UTF-8"),
        ("version: 1".encode("utf-16-le"), "models.yaml:1: contains the control character '\\x00'"),
        (b"version: 1\nname: a\x1b[31m\n", "models.yaml:2: contains the control character '\\x1b'"),
        (b"#" * (MAX_BYTES + 1), "models.yaml: is larger than 1 MiB; is it a manifest?"),
    ],
)
def test_files_that_are_no_text(problems, content: bytes, line: str) -> None:
    assert problems(content) == [line]


def test_files_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listener, monkeypatch.context() as here:
        here.chdir(folder)  # a socket's path is short
        listener.bind("socket")
    (folder / "loop").symlink_to("loop")
    (folder / "long").touch()
    for name, message in {
        "missing.yaml": "there is no such file; name the manifest with --file",
        ".": "is a directory, not a file; name the file in it",
        "fifo": "is a named pipe, not a file; `--file -` reads standard input",
        "socket": "is a socket, not a file; `--file -` reads standard input",
        "/dev/zero": "is a device, not a file; `--file -` reads standard input",
        "/proc/self/cmdline": "is empty; a manifest begins with `version: 1`",  # as /proc/kmsg: it is not to be read
        "loop": "cannot be read: Too many levels of symbolic links",
        "long/models.yaml": "cannot be read: Not a directory",
        "x" * 300: "cannot be read: File name too long",
        "nul\0": "cannot be read: embedded null byte",
    }.items():
        with pytest.raises(ManifestError) as raised:
            load_manifest(folder / name)
        assert raised.value.message == f"{folder / name}: {message}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_somebody_else(folder: Path) -> None:
    (folder / "models.yaml").touch(mode=0o000)
    with pytest.raises(ManifestError, match="cannot be read: Permission denied"):
        load_manifest(folder / "models.yaml")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"version: 1\nmodels: [{nam: chat}]", "stdin has 2 problems"),
        (b"#" * (MAX_BYTES + 1), "stdin: is larger than 1 MiB; is it a manifest?"),
    ],
)
def test_standard_input_is_a_file_like_any_other(
    monkeypatch: pytest.MonkeyPatch, folder: Path, content: bytes, message: str
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(SMALLEST.encode())))
    assert load_manifest(STDIN).name == "my-box"
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(content)))
    with pytest.raises(ManifestError) as raised:
        load_manifest(STDIN)
    assert raised.value.message.splitlines()[0] == message
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ManifestError, match="stdin: is closed"):
        load_manifest(STDIN)
