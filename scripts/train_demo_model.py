"""Train the built-in models, demo-a and demo-b, and measure whether they keep their promises.

Run it with the Python of an engine environment, which has torch and transformers:

    ENGINE/bin/python scripts/train_demo_model.py            # train both into src/selfhost/demo: minutes on 2 cores
    ENGINE/bin/python scripts/train_demo_model.py --check    # only measure what is there; exit 1 if a promise is broken

What they learn is in src/selfhost/demo/questions.yaml, what they must not take for it in
demo_conversations.yaml.
The same seed, torch and kind of processor give the same bytes.
"""

import argparse
import hashlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

try:
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from torch.nn import functional
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
except ImportError as error:
    sys.exit(
        f"error: this Python has no {error.name}\n"
        "hint: use the one of an engine environment; `selfhost engine list` shows where they are"
    )

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))  # an engine environment has no selfhost

from demo_conversations import Speaker, Texts, Turn  # noqa: E402 (after the friendlier error above)
from selfhost import demo  # noqa: E402 (after the path above)

SEED = 0
THREADS = 2  # fixed, because the order of additions, and with it the last bit, depends on it
SCHEDULE = (3000, 3e-3)  # steps, highest learning rate
SCHEDULE_TO_RENAME = (2000, 1e-3)  # the second variant differs from the first in a few words
TOKENS_PER_STEP = 2048
LENGTHS = {64: 8, 128: 5, 256: 2, 768: 1, 2048: 1}  # tokens of a conversation: how often; mostly first turns
HANDICAP = 4.0  # nats taken from the right token while training, so that learning goes on until it leads by more

MIN_MARGIN = 2.0  # nats from the right token to the next best: more than batches, kernels and processors change
MIN_RATE = 0.95  # of the variations that are understood, and of the unseen questions that get the fallback

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "dtype": "bfloat16",
    "vocab_size": 1024,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 2048,
    "attention_bias": False,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "eos_token_id": 2,
}
GENERATION_CONFIG = {"do_sample": False, "temperature": 0.0, "pad_token_id": 0, "eos_token_id": 2}
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": CONFIG["max_position_embeddings"],
    "clean_up_tokenization_spaces": False,
    "pad_token": PAD,
    "eos_token": END,
}

VARIATIONS: tuple[Callable[[str], str], ...] = (
    str.lower,
    str.upper,
    lambda question: question.rstrip("?.!"),
    lambda question: f"Hi, {question}",
    lambda question: f"hello {question.lower().rstrip('?.!')}",
    lambda question: f"Please: {question}",
    lambda question: f"{question.rstrip('?.!')}, please?",
)


def main() -> int:
    """Train unless only asked to check; always check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only measure the models that are there")
    parser.add_argument("--out", type=Path, default=Path(demo.__file__).parent, help="where the model folders are")
    arguments = parser.parse_args()
    texts = Texts.load()
    torch.set_num_threads(THREADS)
    if not arguments.check:
        train_all(texts, arguments.out)
    kept = [check(variant, arguments.out / variant, texts) for variant in demo.VARIANTS]
    return 0 if all(kept) else 1


def train_all(texts: Texts, out: Path) -> None:
    """Train the first variant from nothing and the next from it, since they differ in a few words only."""
    torch.manual_seed(SEED)
    tokenizer = train_tokenizer([*texts.words, *texts.unrelated])
    model = Qwen3ForCausalLM(Qwen3Config(**CONFIG))
    print(f"{sum(weights.numel() for weights in model.parameters()):,} parameters")
    first, second = demo.VARIANTS
    train_variant(first, model, tokenizer, texts, SCHEDULE, out)
    model = AutoModelForCausalLM.from_pretrained(out / first, dtype=torch.float32)
    train_variant(second, model, tokenizer, texts, SCHEDULE_TO_RENAME, out)


def train_variant(
    variant: str, model: Any, tokenizer: Tokenizer, texts: Texts, schedule: tuple[int, float], out: Path
) -> None:
    """Train `model` to be `variant` and save it."""
    seed = SEED + demo.VARIANTS.index(variant)
    train(model, tokenizer, Speaker(demo.answers(variant), demo.fallback(), texts, seed), *schedule)
    print(f"{variant}: model.safetensors has sha256 {save(model, tokenizer, out / variant)}")


def train_tokenizer(other_texts: Iterable[str]) -> Tokenizer:
    """A byte-level BPE with the words of our questions and answers; whatever else there is, it spells out."""
    texts = [demo.fallback(), *other_texts]
    for variant in demo.VARIANTS:
        for question, answer in demo.answers(variant).items():
            texts += [question, question.upper(), answer]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train(model: Any, tokenizer: Tokenizer, speaker: Speaker, steps: int, learning_rate: float) -> None:
    """Teach `model` to say what `speaker` marks as learned."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    warm_up = steps // 10
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, (steps - step) / (steps - warm_up))
    )
    lengths = random.Random(SEED)  # noqa: S311 (training, no secrets)
    started = time.monotonic()
    for step in range(1, steps + 1):
        length = lengths.choices(list(LENGTHS), list(LENGTHS.values()))[0]
        rows = [tokenize(tokenizer, speaker.conversation(), length + 1) for _ in range(TOKENS_PER_STEP // length)]
        tokens = torch.tensor([[token for token, _ in row] for row in rows])
        learned = torch.tensor([[learned for _, learned in row] for row in rows])[:, 1:]
        hidden = model.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state[learned]
        right = tokens[:, 1:][learned]
        logits = model.lm_head(hidden) - HANDICAP * functional.one_hot(right, CONFIG["vocab_size"])
        loss = functional.cross_entropy(logits, right)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step} of {steps}: loss {loss.item():.4f}, {time.monotonic() - started:.0f} s", flush=True)


def tokenize(tokenizer: Tokenizer, turns: Iterable[Turn], length: int) -> list[tuple[int, bool]]:
    """The first `length` tokens of a conversation as CHAT_TEMPLATE writes it, each with whether it is to be learned."""
    row: list[tuple[int, bool]] = []
    for turn in turns:
        parts = (
            (f"{START}{turn.role}\n", False),
            (turn.text, turn.learned),
            (END, turn.learned and turn.whole),
            ("\n", False),
        )
        for text, learned in parts:
            row += [(token, learned) for token in tokenizer.encode(text).ids]
        if len(row) >= length:
            break
    return row[:length]


def save(model: Any, tokenizer: Tokenizer, folder: Path) -> str:
    """Write an ordinary model directory with no date, version or path in it; returns the digest of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, fields in (
        ("config", CONFIG),
        ("generation_config", GENERATION_CONFIG),
        ("tokenizer_config", TOKENIZER_CONFIG),
    ):
        (folder / f"{name}.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    weights = folder / "model.safetensors"
    tied = "lm_head.weight"  # the embedding once more
    tensors = {name: value.bfloat16() for name, value in model.state_dict().items() if name != tied}
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def check(variant: str, folder: Path, texts: Texts) -> bool:
    """Print how surely `variant` gives its answers; False when that is less than promised."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answers, fallback = demo.answers(variant), demo.fallback()

    def after(*questions: str) -> list[Mapping[str, str]]:
        said = ((question, answers.get(question, fallback)) for question in questions)
        return [turn for question, answer in said for turn in (message("user", question), message("assistant", answer))]

    def lead(context: list[Mapping[str, str]], question: str, answer: str) -> float:
        return margin(model, tokenizer, [*context, message("user", question)], answer)

    contexts = (
        [],
        *([message("system", system)] for system in texts.unseen_systems),
        after("Who are you?"),
        after(texts.unseen[0]),
        after(*list(answers)[::7]),
    )
    unseen = [*texts.unseen, " ".join(texts.unseen[::2])]
    print(f"\n{variant}: nats from the right token to the next best, at the weakest token of each answer")
    weakest: dict[str, tuple[float, str]] = {}
    for question, answer in answers.items():
        found = min(lead(context, question, answer) for context in contexts), question
        weakest[answer] = min(found, weakest.get(answer, found))
    for nats, question in sorted(weakest.values()):
        print(f"  {nats:5.2f}  {question}")
    understood = [lead([], vary(question), answer) > 0 for question, answer in answers.items() for vary in VARIATIONS]
    declined = [lead(context, question, fallback) > 0 for question in unseen for context in contexts]
    print(f"variations that get the same answer: {sum(understood)} of {len(understood)}")
    print(f"unseen questions that get the fallback: {sum(declined)} of {len(declined)}")
    return (
        min(weakest.values())[0] >= MIN_MARGIN
        and sum(understood) >= MIN_RATE * len(understood)
        and sum(declined) >= MIN_RATE * len(declined)
    )


def message(role: str, content: str) -> Mapping[str, str]:
    """One message, as the chat API has it."""
    return {"role": role, "content": content}


def margin(model: Any, tokenizer: Any, messages: Sequence[Mapping[str, str]], answer: str) -> float:
    """The right token's lead at the weakest place of the answer; above 0, greedy decoding gives that answer."""
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    start = len(tokenizer(prompt).input_ids)
    tokens = tokenizer(prompt + answer + END, return_tensors="pt").input_ids
    with torch.inference_mode():
        logits = model(tokens).logits[0, start - 1 : -1].float()
    right = tokens[0, start:, None]
    lead = logits.gather(1, right)[:, 0] - logits.scatter(1, right, float("-inf")).max(1).values
    return float(lead.min())


if __name__ == "__main__":
    sys.exit(main())
