import os
from pathlib import Path

import pytest

from selfhost.engines import pip_config

LISTING = r"""
WARNING: something that pip says
:env:.cert='/etc/ssl/ca.pem'
global.extra-index-url='\nhttps://a.example/simple\nhttps://b.example/simple'
global.find-links='/srv/wheels'
global.index-url='https://mirror.example/simple'
install.find-links="/srv/it's here"
download.find-links='/nowhere'
"""


def test_the_listing_of_pip_is_read_as_pip_means_it() -> None:
    assert pip_config.parse_listing(LISTING) == {
        "extra-index-url": "\nhttps://a.example/simple\nhttps://b.example/simple",
        "find-links": "/srv/it's here",
        "index-url": "https://mirror.example/simple",
    }


def test_variables_win_over_files(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url = https://mirror.example/simple\nfind-links = /srv/wheels /srv/more\n")
    environ = {"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": str(config), "PIP_FIND_LINKS": "/mnt/wheels"}
    settings = pip_config.read_settings(environ)
    assert settings["index-url"] == "https://mirror.example/simple"
    assert settings["find-links"] == "/mnt/wheels"


@pytest.mark.parametrize(
    ("settings", "environ", "variables"),
    [
        ({}, {}, {}),
        (
            {
                "index-url": "https://mirror.example/simple",
                "extra-index-url": "https://a.example/simple\nhttps://b.example/simple",
                "find-links": "/srv/wheels /srv/more",
                "trusted-host": "a.example b.example",
                "default-timeout": "180",
                "cert": "/etc/ssl/ca.pem",
                "client-cert": "/etc/ssl/me.pem",
                "proxy": "http://proxy.example:3128",
                "disable-pip-version-check": "1",
            },
            {},
            {
                "UV_DEFAULT_INDEX": "https://mirror.example/simple",
                "UV_INDEX": "https://a.example/simple https://b.example/simple",
                "UV_FIND_LINKS": "/srv/wheels,/srv/more",
                "UV_INSECURE_HOST": "a.example b.example",
                "UV_HTTP_TIMEOUT": "180",
                "SSL_CERT_FILE": "/etc/ssl/ca.pem",
                "SSL_CLIENT_CERT": "/etc/ssl/me.pem",
                "ALL_PROXY": "http://proxy.example:3128",
            },
        ),
        # who has told uv has told uv, in its older words too
        ({"index-url": "https://pip.example"}, {"UV_DEFAULT_INDEX": "https://uv.example"}, {}),
        ({"index-url": "https://pip.example"}, {"UV_INDEX_URL": "https://uv.example"}, {}),
        ({"extra-index-url": "https://pip.example"}, {"UV_EXTRA_INDEX_URL": "https://uv.example"}, {}),
        # what pip's HTTP library reads by itself
        ({}, {"REQUESTS_CA_BUNDLE": "/etc/ssl/ca.pem"}, {"SSL_CERT_FILE": "/etc/ssl/ca.pem"}),
        ({}, {"CURL_CA_BUNDLE": "/proc"}, {"SSL_CERT_DIR": "/proc"}),
        ({}, {"REQUESTS_CA_BUNDLE": "/a.pem", "SSL_CERT_FILE": "/b.pem"}, {}),
        ({"cert": "/a.pem"}, {"REQUESTS_CA_BUNDLE": "/b.pem"}, {"SSL_CERT_FILE": "/a.pem"}),
        ({"proxy": "http://pip.example"}, {"all_proxy": "http://shell.example"}, {}),
    ],
)
def test_what_uv_is_told(settings: dict[str, str], environ: dict[str, str], variables: dict[str, str]) -> None:
    assert pip_config.to_uv(settings, environ).variables == variables


def test_indexes_are_equal_only_where_pips_extra_ones_are_used() -> None:
    extra = {"extra-index-url": "https://a.example/simple"}
    assert pip_config.to_uv(extra, {}).equal_indexes
    assert not pip_config.to_uv(extra, {"UV_INDEX": "https://uv.example"}).equal_indexes
    assert not pip_config.to_uv({}, {}).equal_indexes


@pytest.mark.parametrize(("value", "meaning"), [("1", True), ("True", True), ("yes", True), ("0", False), ("", False)])
def test_no_index(value: str, *, meaning: bool) -> None:
    assert pip_config.to_uv({"no-index": value}, {}).no_index is meaning
