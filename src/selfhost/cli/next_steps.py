"""What to type after a successful `up`: a request that works here, from elsewhere, and how to let others in."""

import getpass
import json
import socket

from selfhost.cli import output
from selfhost.cli.address import base_url, client_host
from selfhost.cli.pipeline import key_store
from selfhost.planner.plan import Plan

QUESTION = "What can you do?"


def say_next_steps(plan: Plan) -> None:
    """Say them."""
    url = base_url(plan.gateway.host, plan.gateway.port)
    needs_key = bool(plan.gateway.keys or key_store(plan.name).records())  # revoked ones keep the door shut
    request = {"model": plan.deployments[0].name, "messages": [{"role": "user", "content": QUESTION}]}
    names = ", ".join(deployment.name for deployment in plan.deployments)
    lines = ["", f"ready: {names} at {url}/v1", "", f"  curl {url}/v1/chat/completions \\"]
    if needs_key:
        lines.append('    -H "Authorization: Bearer $SELFHOST_KEY" \\')
    lines.append("    -H 'Content-Type: application/json' \\")
    lines.append(f"    -d '{json.dumps(request)}'")
    lines.append("")
    if plan.gateway.host in {"127.0.0.1", "::1", "localhost"}:
        port = plan.gateway.port
        here = f"{client_host(plan.gateway.host)}:{port}"
        lines.append(f"from elsewhere: ssh -L {port}:{here} {_user()}@{socket.gethostname()}")
        lines.append(f"let others in:  selfhost keys create NAME, gateway.listen: 0.0.0.0:{port}, selfhost up")
    output.say("\n".join(lines))


def _user() -> str:
    """Who to log in as; a container may run as a uid that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "user"
