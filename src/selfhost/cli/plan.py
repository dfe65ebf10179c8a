"""`selfhost plan` and `selfhost pull`: what would happen, and its first half."""

import asyncio
from pathlib import Path

import click

from selfhost.catalog.model import CheckpointKind, CheckpointRef
from selfhost.cli import options, output
from selfhost.cli.pipeline import plan_for, prepare
from selfhost.errors import ExitCode, SelfhostError
from selfhost.hardware import what_if
from selfhost.planner.build import PlanError
from selfhost.planner.reconcile import reconcile
from selfhost.planner.text import render_plan, render_steps
from selfhost.runtime import jobs
from selfhost.runtime.control import plan_codec, steps_codec
from selfhost.runtime.observe import observe
from selfhost.units import format_bytes
from selfhost.weights import check_disk, missing_bytes


@click.command(
    epilog=options.examples(
        "selfhost plan",
        "selfhost plan --json",
        "selfhost plan --exit-code",
        "selfhost plan --on 8xH100",
        "selfhost plan --on 2xRTX4090,64GiB",
        "selfhost plan --on cpu,32GiB",
    )
)
@options.manifest
@options.as_json
@click.option("--exit-code", "with_exit_code", is_flag=True, help="Exit with 3 when something would change.")
@click.option("--on", "spec", metavar="SPEC", help="Plan for a machine that is not this one: GPUs, or memory.")
def plan(*, manifest_path: Path, as_json: bool, with_exit_code: bool, spec: str | None) -> int:
    """Show what would run where and why, and what `up` would do. Changes nothing."""
    if spec is not None:
        if with_exit_code:
            raise click.UsageError("--exit-code tells of changes on this machine, and --on plans for another one.")
        _plan_on(spec, manifest_path, as_json=as_json)
        return ExitCode.OK
    prepared = prepare(manifest_path)
    steps = reconcile(prepared.plan, observe(prepared.plan, prepared.status))
    if as_json:
        output.json_document(
            {
                "plan": plan_codec.dump_python(prepared.plan, mode="json"),
                "steps": steps_codec.dump_python(steps, mode="json"),
            }
        )
    else:
        output.data(render_plan(prepared.plan))
        output.data(render_steps(steps).rstrip("\n"))
        if steps:
            output.say(f"next: selfhost up -f {manifest_path}")
    return ExitCode.CHANGES_PENDING if steps and with_exit_code else ExitCode.OK


def _plan_on(spec: str, manifest_path: Path, *, as_json: bool) -> None:
    """Show the plan for the machine that `spec` describes."""
    try:
        inventory = what_if.parse(spec)
    except what_if.SpecError as error:
        raise click.BadParameter(f"{error}.", param_hint="--on") from error
    try:
        described = plan_for(manifest_path, inventory)
    except PlanError as error:
        error.hint = "try another --on; nothing was downloaded or started"
        raise
    if as_json:
        output.json_document({"what_if": spec, "plan": plan_codec.dump_python(described, mode="json")})
    else:
        output.data(render_plan(described).rstrip("\n"))
        output.say("what if: nothing was asked of this machine, and nothing of this can be applied here")


@click.command(epilog=options.examples("selfhost pull", "selfhost pull chat"))
@options.manifest
@options.as_json_lines
@click.argument("models", nargs=-1)
def pull(*, manifest_path: Path, as_json: bool, models: tuple[str, ...]) -> None:
    """Fetch the weights of the models of the manifest, without starting anything."""
    planned = {deployment.name: deployment.checkpoint for deployment in prepare(manifest_path).plan.deployments}
    unknown = [name for name in models if name not in planned]
    if unknown:
        raise SelfhostError(f"the manifest has no model '{unknown[0]}'", hint=f"it has {', '.join(planned)}")
    for checkpoint in {planned[name].label: planned[name] for name in models or planned}.values():
        _pull(checkpoint, as_json=as_json)


def _pull(checkpoint: CheckpointRef, *, as_json: bool) -> None:
    missing = missing_bytes(checkpoint)
    if not missing:
        where = "built in" if checkpoint.kind is CheckpointKind.BUILT_IN else "already here"
        output.say(f"{checkpoint.label}: {where}, {format_bytes(checkpoint.total_bytes)}")
        return
    check_disk(checkpoint)
    with output.ProgressLine(checkpoint.label, as_json=as_json) as line:
        asyncio.run(jobs.fetch(checkpoint, line.report))
    output.say(f"{checkpoint.label}: fetched, {format_bytes(checkpoint.total_bytes)}")
