"""Where clients on this machine reach a gateway."""

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 (where a server that listens everywhere is reached)


def base_url(host: str, port: int) -> str:
    """`http://127.0.0.1:8000` for the address that a gateway listens on."""
    return f"http://{client_host(host)}:{port}"


def client_host(host: str) -> str:
    """The address that a gateway listens on as clients write it: `[::1]`."""
    return ANY_ADDRESS.get(host) or (f"[{host}]" if ":" in host else host)
