"""Checks of the network: the gateway's port, who listens, the Hub and the clock. Pure."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from selfhost.doctor.facts import Facts, HubAnswer, Listener, NotLooked, PortAnswer
from selfhost.doctor.finding import Verdict, blocking, fine, note, warning
from selfhost.units import format_bytes, format_duration

CLOCK_SECONDS = 300.0  # certificates and signed addresses of downloads are refused beyond a few minutes

# Programs that answer whoever reaches them, without a password unless somebody set one.
OPEN_PROGRAMS = ("vllm", "ray", "raylet", "gcs_server", "ollama", "jupyter", "sglang", "llama-server", "tritonserver")


class Hub(NamedTuple):
    """What the Hub says, and what is still to be fetched from it (None: unknown)."""

    answer: HubAnswer
    missing_weights: Mapping[str, int] | None  # bytes by `REPO@REVISION`, as the manifest writes it


def hub_of(facts: Facts) -> Hub | NotLooked | None:
    """What `hub_access` is about."""
    return Hub(facts.hub, _missing_weights(facts)) if isinstance(facts.hub, HubAnswer) else facts.hub


def clock_of(facts: Facts) -> HubAnswer | None:
    """What `clock` is about; None where the Hub could not be asked, which `hub_access` says."""
    answer = facts.hub if isinstance(facts.hub, HubAnswer) else None
    return None if answer is None or answer.offline or answer.unreachable else answer


def gateway_port(port: PortAnswer) -> Iterator[Verdict]:
    """The address that clients will talk to."""
    if port.error is None:
        yield fine(f"{port.address} is free")
    elif port.ours:
        yield fine(f"{port.address} is held by the gateway of this manifest")
    else:
        holder = port.holder
        who = f", by {holder.program or 'a process'} (pid {holder.pid})" if holder and holder.pid else ""
        yield blocking(
            f"cannot listen on {port.address}: {port.error}{who}",
            fix=f"ss -ltnp 'sport = :{port.address.rpartition(':')[2]}'  # or choose another gateway.listen",
        )


def public_listeners(listeners: tuple[Listener, ...]) -> Iterator[Verdict]:
    """Programs that other machines can talk to, as far as they can be seen from here."""
    found = False
    for each in listeners:
        if each.private or each.program is None:
            continue
        if each.ours:
            yield note(f"the gateway on {_address(each)} can be reached from other machines, with an API key")
        elif each.program in OPEN_PROGRAMS:
            found = True
            yield warning(
                f"{each.program} (pid {each.pid}) on {_address(each)} can be reached from other machines, and may "
                "ask for no password",
                fix=f"ss -ltnp 'sport = :{each.port}'  # bind it to 127.0.0.1, or close the port in the firewall",
            )
    if not found:
        yield fine("no other program that serves models can be seen on a public address")


def hub_access(hub: Hub) -> Iterator[Verdict]:
    """Whether each repository of the manifest can be fetched."""
    answer, missing = hub
    needed = missing or {}
    if answer.offline:
        if sum(needed.values()) or (missing is None and answer.repositories):
            yield note("HF_HUB_OFFLINE is set: only what is on this machine can be served", fix="unset HF_HUB_OFFLINE")
        else:
            yield fine("HF_HUB_OFFLINE is set, and nothing is to be fetched")
    elif answer.unreachable:
        nothing = not answer.repositories or (missing is not None and not sum(needed.values()))
        yield (note if nothing else warning)(
            f"the Hub ({answer.endpoint}) cannot be reached: {answer.unreachable}"
            + ("; nothing is to be fetched from it" if nothing else ""),
            fix=f"curl -I {answer.endpoint}  # then check HTTPS_PROXY, SSL_CERT_FILE, HF_ENDPOINT and the clock",
        )
    else:
        if not answer.repositories:
            yield fine(f"the Hub ({answer.endpoint}) answers")
        for wanted, problem in answer.repositories.items():
            here = missing is not None and not needed.get(wanted, 0)
            if problem is None:
                repo = wanted.removesuffix("@main")
                to_fetch = f", {format_bytes(needed[wanted])} to fetch" if needed.get(wanted) else ""
                yield fine(f"{repo} can be fetched{to_fetch}" if not here else f"{repo} is here, and can be fetched")
            else:
                say = blocking if problem.blocks and not here else warning
                yield say(problem.message + ("; its weights are here already" if here else ""), fix=problem.hint)


def clock(hub: HubAnswer) -> Iterator[Verdict]:
    """This machine's clock against the Hub's."""
    ahead = hub.clock_ahead_seconds
    if ahead is None:
        yield note("the clock could not be looked at: the Hub tells no time")
    elif abs(ahead) > CLOCK_SECONDS:
        yield warning(
            f"the clock is {format_duration(abs(ahead))} {'ahead' if ahead > 0 else 'behind'}: certificates and signed "
            "addresses are refused",
            fix="sudo timedatectl set-ntp true  # in a container: on its host",
        )
    else:
        yield fine("the clock agrees with the Hub's")


def _missing_weights(facts: Facts) -> dict[str, int] | None:
    """Bytes to fetch by `REPO@REVISION`: the plan's labels have commits, and the manifest branches and tags."""
    if facts.missing_weights is None:
        return None
    revisions = {model.name: model.revision for model in facts.manifest.models} if facts.manifest else {}
    missing: dict[str, int] = {}
    for each in facts.deployments:
        wanted = f"{each.checkpoint.location}@{revisions.get(each.name, 'main')}"
        missing[wanted] = max(missing.get(wanted, 0), facts.missing_weights.get(each.checkpoint.label, 0))
    return missing


def _address(listener: Listener) -> str:
    host = f"[{listener.host}]" if ":" in listener.host else listener.host
    return f"{host}:{listener.port}"
