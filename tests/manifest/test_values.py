import pytest
from pydantic import BaseModel, ValidationError

from selfhost.manifest.values import (
    Alias,
    Listen,
    ListenAddress,
    Name,
    Revision,
    Sha256,
    Source,
    SourceKind,
    VllmVersion,
)


@pytest.mark.parametrize(
    "text, host, port, is_loopback",
    [
        ("127.0.0.1:8000", "127.0.0.1", 8000, True),
        ("127.9.9.9:1", "127.9.9.9", 1, True),
        ("localhost:65535", "localhost", 65535, True),
        ("[::1]:8000", "::1", 8000, True),
        ("0.0.0.0:80", "0.0.0.0", 80, False),
        ("[::]:80", "::", 80, False),
        ("10.0.0.7:8000", "10.0.0.7", 8000, False),
        ("[::ffff:127.0.0.1]:80", "::ffff:7f00:1", 80, False),  # unclear, so it counts as public
    ],
)
def test_an_address_to_listen_on(text: str, host: str, port: int, is_loopback: bool) -> None:  # noqa: FBT001
    listen = Listen.parse(text)
    assert (listen.host, listen.port, listen.is_loopback) == (host, port, is_loopback)
    assert Listen.parse(str(listen)) == listen


@pytest.mark.parametrize(
    "text",
    [
        *("", "8000", ":8000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:-1"),
        *("127.0.0.1:8_0", "127.0.0.1:٨٠", "127.0.0.1:80\n", "1.2.3:80", "256.0.0.1:80", "01.2.3.4:80"),
        *("::1:8000", "[::1]", "[]:80", "[127.0.0.1]:80", "box:8000", "*:8000", "http://127.0.0.1:80"),
    ],
)
def test_no_address_to_listen_on(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Listen.parse(text)


@pytest.mark.parametrize(
    "source, kind",
    [
        ("auto", SourceKind.AUTO),
        ("qwen3-8b", SourceKind.CATALOGUE),
        ("Qwen/Qwen3-8B", SourceKind.HUB),
        ("models/chat", SourceKind.HUB),  # a folder needs its ./
        ("./chat", SourceKind.PATH),
        ("../chat", SourceKind.PATH),
        ("/srv/models/chat", SourceKind.PATH),
        ("~/chat", SourceKind.PATH),
    ],
)
def test_the_kind_of_a_source_is_told_by_its_spelling(source: str, kind: SourceKind) -> None:
    assert SourceKind.of(source) is kind


class Values(BaseModel):
    name: Name = "a"
    alias: Alias = "a"
    revision: Revision = "main"
    sha256: Sha256 = "0" * 64
    source: Source = "auto"
    vllm: VllmVersion = "0.32.0"
    listen: ListenAddress = Listen("127.0.0.1", 8000)


@pytest.mark.parametrize(
    "field, text, value",
    [
        ("name", "a", "a"),
        ("name", "qwen3.5-9b", "qwen3.5-9b"),
        ("name", "a" * 40, "a" * 40),
        ("alias", "gpt-4o", "gpt-4o"),
        ("alias", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("alias", "a" * 96, "a" * 96),
        ("revision", "refs/pr/12", "refs/pr/12"),
        ("sha256", "AB" * 32, "ab" * 32),
        ("source", "org.x/name_y-z.1", "org.x/name_y-z.1"),
        ("source", "./a folder", "./a folder"),
        ("vllm", "0.32.0", "0.32.0"),
        ("vllm", "0.33.1.post1", "0.33.1.post1"),
        ("vllm", "0.33.0rc1", "0.33.0rc1"),
    ],
)
def test_values_that_are_right(field: str, text: str, value: str) -> None:
    assert getattr(Values.model_validate({field: text}), field) == value


@pytest.mark.parametrize(
    "field, text",
    [
        ("name", ""),
        ("name", "."),
        ("name", ".."),
        ("name", "-a"),
        ("name", "a-"),
        ("name", "A"),
        ("name", "a_b"),
        ("name", "a/b"),
        ("name", "a\n"),
        ("name", "é"),
        ("name", "a" * 41),
        ("alias", ""),
        ("alias", "-a"),
        ("alias", "a b"),
        ("alias", "a\n"),
        ("alias", "a" * 97),
        ("revision", "../../etc"),
        ("revision", "a..b"),
        ("revision", "-x"),
        ("sha256", "ab" * 31),
        ("sha256", "xy" * 32),
        ("source", ""),
        ("source", "org/name/more"),
        ("source", "org//name"),
        ("source", "https://huggingface.co/org/name"),
        ("source", "org/name@main"),
        ("source", "-x"),
        ("source", "a b"),
        ("source", "~user/models"),
        ("source", "./a\nb"),
        ("source", "./a\tb"),
        ("source", "/a\x1b[2J"),
        ("source", "/a\u202eb"),
        ("vllm", "latest"),
        ("vllm", ">=0.32"),
        ("vllm", "0.31.9"),
        ("vllm", "0.32.0rc1"),
        ("vllm", "0.32.0.dev1"),
        ("vllm", "0.33"),
        ("vllm", "0.33.1+cpu"),
        ("vllm", "v0.33.1"),
        ("vllm", "9" * 5000 + ".0.0"),
        ("listen", "8000"),
    ],
)
def test_values_that_are_wrong_and_are_not_repeated_in_the_error(field: str, text: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Values.model_validate({field: text})
    (error,) = raised.value.errors()
    assert (error["type"], error["loc"]) == ("refused", (field,))
    assert len(text) < 5 or text not in error["msg"]
