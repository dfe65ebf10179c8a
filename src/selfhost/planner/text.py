"""A plan as text, for people: what will run where and why, every number with how it is known. Pure and stable."""

from collections.abc import Sequence

from selfhost.columns import align
from selfhost.planner.actions import Step
from selfhost.planner.plan import Deployment, Figure, Plan, Platform, Replica
from selfhost.units import format_bytes


def render_plan(plan: Plan) -> str:
    """The plan, one paragraph per model."""
    head = f"{plan.name}: {plan.machine}"
    return "\n\n".join([head, *(_deployment(plan, deployment) for deployment in plan.deployments)]) + "\n"


def render_steps(steps: Sequence[Step]) -> str:
    """The steps, one line each: number, verb, resource, cause, and what must have happened before."""
    if not steps:
        return "nothing to do: everything is as planned\n"
    rows = [
        (
            f"{step.number}.",
            step.action.kind,
            step.action.resource,
            step.action.cause,
            f"after {', '.join(map(str, step.after))}" if step.after else "",
        )
        for step in steps
    ]
    return "\n".join(align(rows)) + "\n"


def _deployment(plan: Plan, deployment: Deployment) -> str:
    names = ", ".join((deployment.name, *deployment.aliases))
    engine = f"vLLM {plan.engine.vllm_version} ({plan.engine.platform})"
    lines = [f"{names}: {deployment.checkpoint.label} on {engine}"]
    lines += [f"  because {cause}" for cause in deployment.causes]
    if deployment.engine_args:
        arguments = ", ".join(f"{key}: {value}" for key, value in deployment.engine_args.items())
        lines.append(f"  engine_args {arguments}")
    lines += [f"  {replica.name} on {_place(plan, deployment, replica)}" for replica in deployment.replicas]
    lines += _memory(plan, deployment.replicas[0], deployment)
    return "\n".join(lines)


def _place(plan: Plan, deployment: Deployment, replica: Replica) -> str:
    if plan.engine.platform is Platform.CPU:
        return "the CPU"
    gpus = ", ".join(replica.gpu_labels)
    if deployment.tensor_parallel_size == 1:
        return f"GPU {gpus}"
    return f"GPUs {gpus} (tensor_parallel_size {deployment.tensor_parallel_size})"


def _memory(plan: Plan, replica: Replica, deployment: Deployment) -> list[str]:
    memory, kv_cache = replica.memory, replica.kv_cache
    figures: list[tuple[str, Figure]] = [
        ("host memory" if plan.engine.platform is Platform.CPU else "each GPU", memory.total),
        ("budget", memory.budget),
        ("  weights", memory.weights),
        ("  reserve", memory.reserve),
        ("  KV cache", memory.kv_cache),
        ("    needed", memory.kv_cache_needed),
    ]
    rows = [(label, format_bytes(figure.bytes), figure.basis, figure.note) for label, figure in figures]
    holds = (
        f"holds {kv_cache.tokens:,} tokens: {kv_cache.max_concurrency:.1f} requests of "
        f"{deployment.max_model_len:,} tokens at once, {deployment.concurrency:,} asked for "
        f"({memory.kv_cache.basis})"
    )
    return [f"    {line}" for line in [*align(rows, right={1}), holds]]
