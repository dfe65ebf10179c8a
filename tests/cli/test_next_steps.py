import getpass

import pytest

from selfhost.cli import next_steps
from selfhost.cli.address import base_url, client_host


@pytest.mark.parametrize(
    "host, client",
    [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("box", "box")],
)
def test_addresses_are_written_as_clients_need_them(host: str, client: str) -> None:
    assert client_host(host) == client
    assert base_url(host, 8000) == f"http://{client}:8000"


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 12345"), OSError("No username set")])
def test_a_user_without_a_name_can_be_told_how_to_log_in(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def no_name() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", no_name)
    assert next_steps._user() == "user"
