"""How one model fits the devices that are left: at which tensor parallel size, how long, and where. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from selfhost.catalog.model import Checkpoint
from selfhost.errors import BlockedError
from selfhost.manifest.schema import Model
from selfhost.planner.parallelism import most_parts, tensor_parallel_sizes
from selfhost.planner.placement import Kind, Ledger
from selfhost.planner.plan import Platform
from selfhost.planner.refusal import Tried, does_not_fit
from selfhost.planner.sizing import UNSIZED_ARGUMENTS, Sizing, size

SHORTEST_USEFUL = 1024  # tokens: a context below this answers nobody, so it is refused rather than chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One model, placed."""

    sizing: Sizing
    max_model_len: int
    groups: tuple[Kind, ...]  # the devices of each replica
    causes: tuple[str, ...]


def find_fit(model: Model, checkpoint: Checkpoint, platform: Platform, ledger: Ledger) -> Fit:
    """Place `model` and promise its memory in `ledger`.

    The smallest tensor parallel size that holds the wanted length wins; without a wanted length, the longest that
    fits. Raises `BlockedError` with the number that decided and the nearest thing that would fit.
    """
    _refuse_impossible(model, checkpoint)
    sizings = _sizings(model, checkpoint, platform, ledger)
    own = checkpoint.spec.max_model_len
    wanted = model.max_model_len or own
    length_cause = () if model.max_model_len else (f"max_model_len {own:,}: the model's own",)
    for sizing in sizings:
        if groups := _place(model, sizing, wanted, ledger):
            return Fit(
                sizing=sizing,
                max_model_len=wanted,
                groups=groups,
                causes=(*length_cause, *_split_cause(model, sizing, "the smallest that fits")),
            )
    if model.max_model_len is None:
        lengths = [
            sizing.longest_fit(_offer(model, sizing, ledger, replicas=model.replicas), model.concurrency)
            for sizing in sizings
        ]
        longest = max(lengths)
        sizing = sizings[lengths.index(longest)]
        if longest >= SHORTEST_USEFUL and (groups := _place(model, sizing, longest, ledger)):
            return Fit(
                sizing=sizing,
                max_model_len=longest,
                groups=groups,
                causes=(
                    f"max_model_len {longest:,}: the longest that fits (the model's own is {own:,})",
                    *_split_cause(model, sizing, "the one that holds the longest requests"),
                ),
            )
    raise does_not_fit(
        model,
        checkpoint,
        wanted,
        [
            Tried(
                sizing=sizing,
                left_bytes=_offer(model, sizing, ledger, replicas=1),
                replicas=_room_for(model, sizing, wanted, ledger),
            )
            for sizing in sizings
        ],
    )


def _refuse_impossible(model: Model, checkpoint: Checkpoint) -> None:
    unsized = [key for key in model.engine_args if key in UNSIZED_ARGUMENTS]
    if unsized:
        raise BlockedError(
            f"{model.name}: engine_args.{unsized[0]} changes {UNSIZED_ARGUMENTS[unsized[0]]}, which selfhost cannot "
            "size yet",
            hint="leave it out",
        )
    own = checkpoint.spec.max_model_len
    if model.max_model_len and model.max_model_len > own:
        raise BlockedError(
            f"{model.name}: max_model_len {model.max_model_len:,} is more than the model's own {own:,} tokens",
            hint=f"write max_model_len: {own}, or leave it out",
        )


def _sizings(model: Model, checkpoint: Checkpoint, platform: Platform, ledger: Ledger) -> list[Sizing]:
    """Every legal way to split the model over devices of one kind, the smallest first."""
    if not ledger.devices:
        raise BlockedError(
            f"{model.name}: no GPU tells how much memory it has", hint="see `selfhost gpus`; is the driver healthy?"
        )
    spec = checkpoint.spec
    asked = model.tensor_parallel_size
    legal = {kind: tensor_parallel_sizes(spec, most_parts(kind)) for kind in ledger.kinds()}
    sizings = [
        size(checkpoint, kind, platform, tensor_parallel_size=parts, engine_args=model.engine_args)
        for kind, sizes in legal.items()
        for parts in sizes
        if asked in {None, parts}
    ]
    if not sizings:
        possible = sorted({parts for sizes in legal.values() for parts in sizes})
        if all(device.mig for device in ledger.devices):
            raise BlockedError(
                f"{model.name}: tensor_parallel_size {asked} is not possible on MIG devices: an engine "
                "can use only one",
                hint="leave it out, and write replicas to use several; or make the GPU whole: `sudo nvidia-smi -mig 0`",
            )
        raise BlockedError(
            f"{model.name}: tensor_parallel_size {asked} is not possible with {spec.num_attention_heads} attention "
            f"heads, {spec.num_key_value_heads} KV heads and {max(map(most_parts, legal))} "
            f"{'device' if platform is Platform.CPU else 'GPU'}(s) of one kind",
            hint=f"possible here: {', '.join(map(str, possible))}",
        )
    return sorted(sizings, key=lambda sizing: sizing.tensor_parallel_size)


def _place(model: Model, sizing: Sizing, max_model_len: int, ledger: Ledger) -> tuple[Kind, ...] | None:
    """The devices of every replica, promised in `ledger`; None, and nothing promised, when one does not fit."""
    trial = ledger.copy()
    groups = tuple(islice(_groups(model, sizing, max_model_len, trial), model.replicas))
    if len(groups) < model.replicas:
        return None
    ledger.promised = trial.promised
    return groups


def _groups(model: Model, sizing: Sizing, max_model_len: int, ledger: Ledger) -> Iterator[Kind]:
    """The devices of one replica after another, promised in `ledger`, as long as there is room."""
    needed = sizing.needed_bytes(max_model_len, model.concurrency)
    while group := ledger.find(
        sizing.kind,
        needed_bytes=needed,
        utilization=model.gpu_memory_utilization,
        count=sizing.tensor_parallel_size,
    ):
        ledger.promise(group, needed)
        yield group


def _room_for(model: Model, sizing: Sizing, max_model_len: int, ledger: Ledger) -> int:
    """How many of the model's replicas have room."""
    return len(list(islice(_groups(model, sizing, max_model_len, ledger.copy()), model.replicas)))


def _offer(model: Model, sizing: Sizing, ledger: Ledger, *, replicas: int) -> int:
    """What each device has left for this split when each of `replicas` has devices of its own."""
    count = sizing.tensor_parallel_size * replicas
    return ledger.largest_offer(sizing.kind, model.gpu_memory_utilization, count)


def _split_cause(model: Model, sizing: Sizing, reason: str) -> tuple[str, ...]:
    if model.tensor_parallel_size is not None or most_parts(sizing.kind) == 1:
        return ()
    return (f"tensor_parallel_size {sizing.tensor_parallel_size}: {reason}",)
