"""Bodies that may, and bodies that may not, reach an engine."""

from typing import Any

CHAT = {"model": "chat", "messages": []}

FORBIDDEN: list[tuple[dict[str, Any], str]] = [
    ({"prompt_embeds": "gASV"}, "prompt_embeds"),
    ({"prompt_embeds": ["gASV"]}, "prompt_embeds"),
    ({"chat_template": "{{ evil }}"}, "chat_template"),
    ({"chat_template": ""}, "chat_template"),
    ({"chat_template_kwargs": {"chat_template": "{{ evil }}"}}, "chat_template_kwargs.chat_template"),
    ({"chat_template_kwargs": {"a": 1, "mm_processor_kwargs": {}}}, "chat_template_kwargs.mm_processor_kwargs"),
    ({"media_io_kwargs": {"video": {"num_frames": 10**9}}}, "media_io_kwargs"),
    ({"kv_transfer_params": {"remote_host": "10.0.0.1"}}, "kv_transfer_params"),
    ({"kv_transfer_params": {}}, "kv_transfer_params"),
    ({"ec_transfer_params": {"remote_host": "10.0.0.1"}}, "ec_transfer_params"),
    ({"vllm_xargs": {"kv_transfer_params": ["x"]}}, "vllm_xargs.kv_transfer_params"),
    ({"cache_salt": "x"}, "cache_salt"),
    ({"mm_processor_kwargs": {"code_revision": "evil"}}, "mm_processor_kwargs"),
    ({"prompt_logprobs": 0}, "prompt_logprobs"),
    ({"prompt_logprobs": -1}, "prompt_logprobs"),
    ({"n": 9}, "n"),
    ({"n": 10000}, "n"),
    ({"n": 10**30}, "n"),
    ({"n": -1}, "n"),
    ({"n": 9.0}, "n"),
    ({"n": "9"}, "n"),
    ({"n": True}, "n"),
    ({"n": [9]}, "n"),
    ({"best_of": 9}, "best_of"),
    ({"best_of": "100"}, "best_of"),
    ({"logprobs": 21}, "logprobs"),
    ({"logprobs": -1}, "logprobs"),
    ({"logprobs": "21"}, "logprobs"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"top_logprobs": -1}, "top_logprobs"),
    ({"top_logprobs": True}, "top_logprobs"),
]
ALLOWED: list[dict[str, Any]] = [
    {"n": 8, "best_of": 8, "logprobs": 20, "top_logprobs": 20},
    {"n": None, "logprobs": None, "prompt_embeds": None, "chat_template": None},
    {"logprobs": True, "top_logprobs": 0},
    {"logprobs": False},
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"chat_template_kwargs": None, "vllm_xargs": {"x": 1}},
    {"messages": [{"role": "user", "content": "chat_template, prompt_embeds", "n": 99}]},
    {"tools": [{"type": "function", "function": {"name": "cache_salt", "parameters": {"n": 99}}}]},
]
