"""Over how many GPUs a model can be split. Pure."""

from selfhost.catalog.model import ModelSpec
from selfhost.planner.placement import Kind


def most_parts(kind: Kind) -> int:
    """Over how many devices of `kind` one engine can be split.

    A process sees no more than one MIG device, and engines of one replica do not reach each other's (NVIDIA's MIG user
    guide, "CUDA device enumeration").
    """
    return 1 if kind[0].mig else len(kind)


def tensor_parallel_sizes(spec: ModelSpec, gpu_count: int) -> tuple[int, ...]:
    """The legal sizes, smallest first: they divide the attention heads, and divide or are divided by the KV heads.

    vLLM `config/model.py:verify_with_parallel_config` and `layers/linear.py:QKVParallelLinear`.
    """
    return tuple(
        size
        for size in range(1, gpu_count + 1)
        if spec.num_attention_heads % size == 0
        and (spec.num_key_value_heads % size == 0 or size % spec.num_key_value_heads == 0)
    )
