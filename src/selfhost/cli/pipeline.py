"""From the manifest to the plan: load, detect, look up, build. What `plan`, `pull` and `up` have in common."""

from dataclasses import dataclass
from pathlib import Path

from selfhost import paths
from selfhost.catalog.lookup import lookup
from selfhost.cli import output
from selfhost.engines import link_tests
from selfhost.engines.arguments import validate
from selfhost.engines.environment import load_arguments
from selfhost.errors import BlockedError, SelfhostError
from selfhost.gateway.keys import KeyStore
from selfhost.hardware.detect import detect
from selfhost.hardware.inventory import Inventory
from selfhost.manifest.load import load_manifest
from selfhost.manifest.schema import Manifest
from selfhost.planner.build import Found, PlanError, build_plan
from selfhost.planner.plan import Plan
from selfhost.planner.reclaim import without_leftovers, without_ours
from selfhost.planner.source import choose_source
from selfhost.runtime.control_client import ControlClient
from selfhost.runtime.ledger import read_ledger
from selfhost.runtime.observe import find_engine
from selfhost.runtime.status import ManagerStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A plan, and the manager that runs for it already, if one does."""

    plan: Plan
    manifest: Manifest
    manifest_path: str  # absolute
    inventory: Inventory  # the memory of our own engines counted as free
    client: ControlClient
    status: ManagerStatus | None


def prepare(manifest_path: Path) -> Prepared:
    """Make the plan of a manifest for this machine; reads metadata only, downloads and starts nothing.

    Raises `ManifestError`, or `PlanError` with every model that cannot be served and why.
    """
    manifest = load_manifest(manifest_path)
    _refuse_exposure(manifest)
    client = ControlClient(manifest.name)
    status = client.status_if_running()
    ledger = read_ledger()
    for problem in ledger.problems:
        output.warn(problem)
    inventory = detect()
    if status:
        inventory = without_ours(inventory, [each.observed for each in status.replicas])
    else:
        inventory = without_leftovers(inventory, ledger.of(manifest.name))
    found, others = _look_up(manifest, inventory), ledger.others(manifest.name)
    plan = build_plan(manifest, inventory, found, others, link_tests.read())
    _refuse_bad_arguments(plan)
    return Prepared(
        plan=plan,
        manifest=manifest,
        manifest_path=str(manifest_path.absolute()),
        inventory=inventory,
        client=client,
        status=status,
    )


def plan_for(manifest_path: Path, inventory: Inventory) -> Plan:
    """Make the plan of a manifest for a machine that is not this one: of this one, nothing is asked.

    Raises as `prepare` does.
    """
    manifest = load_manifest(manifest_path)
    return build_plan(manifest, inventory, _look_up(manifest, inventory))


def _look_up(manifest: Manifest, inventory: Inventory) -> dict[str, Found]:
    """The checkpoint of every model; raises `PlanError` with all that cannot be had."""
    found: dict[str, Found] = {}
    refusals: list[SelfhostError] = []
    for model in manifest.models:
        try:
            chosen = choose_source(model.source, inventory)
            found[model.name] = Found(checkpoint=lookup(chosen.source, model.revision), cause=chosen.cause)
        except SelfhostError as error:
            refusals.append(type(error)(f"{model.name}: {error.message}", hint=error.hint))
    if refusals:
        raise refusals[0] if len(refusals) == 1 else PlanError(refusals)
    return found


def key_store(manifest_name: str) -> KeyStore:
    """The API keys that were created for a manifest."""
    return KeyStore(paths.state_dir(manifest_name) / "keys.json")


def _refuse_bad_arguments(plan: Plan) -> None:
    """Hold engine_args against the engine's own parser, if the engine is here: later is half a minute later."""
    environment = find_engine(plan.engine)
    if environment is None:
        return
    arguments = load_arguments(environment)
    problems = [
        SelfhostError(f"{deployment.name}: engine_args: {problem}")
        for deployment in plan.deployments
        for problem in validate(arguments, deployment.engine_args)
    ]
    if problems:
        raise PlanError(problems)


def _refuse_exposure(manifest: Manifest) -> None:
    """A public address without keys would let anybody use the models."""
    listen = manifest.gateway.listen
    if listen.is_loopback or manifest.gateway.keys or key_store(manifest.name).list():
        return
    raise BlockedError(
        f"gateway.listen is {listen}, which others can reach, and there is no API key",
        hint="create one first: selfhost keys create NAME; or listen on 127.0.0.1",
    )
