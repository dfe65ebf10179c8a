"""What people say to the built-in model and what it should answer: endless conversations from a seed, to train on."""

import random
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import yaml

T = TypeVar("T")

OPENINGS = ("hi", "hi", "hello", "hello", "hey", "please", "please", "ok", "so", "well")
ENDINGS = (" please", ", please", " please?", ", thanks", "??", " ?", "?!", "!", ".")
SYLLABLES = [a + b + c for a in "bcdfghjklmnprstvwz" for b in "aeiou" for c in ("", "n", "r", "s", "t", "l", "x")]


class Turn(NamedTuple):
    """One message of a conversation."""

    role: str
    text: str
    learned: bool = False  # whether the model should learn to say it
    whole: bool = True  # whether it should learn to stop there


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """What is said besides our questions and answers. Each `{}` stands for any words."""

    words: list[str]
    small_words: list[str]  # which say nothing about what a question is about
    unrelated: list[str]
    systems: list[str]
    unseen: list[str]  # these two are never trained on
    unseen_systems: list[str]

    @classmethod
    def load(cls) -> "Texts":
        """The texts in demo_conversations.yaml."""
        fields = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
        return cls(**{name: texts.split() if isinstance(texts, str) else texts for name, texts in fields.items()})


class Speaker:
    """Talks to the model as users, other programs and other models do, and says what it should answer."""

    def __init__(self, answers: Mapping[str, str], fallback: str, texts: Texts, seed: int) -> None:
        self._fallback = fallback
        self._texts = texts
        self._random = random.Random(seed)  # noqa: S311 (training data, no secrets)
        self._answers = list(answers.items())
        self._known = [_bare(question) for question in answers]

    def conversation(self) -> Iterator[Turn]:
        """One conversation without an end; take as many turns as fit."""
        if self._chance(0.35):
            system = self._fill(self._pick(self._texts.systems)) if self._chance(0.6) else self._nonsense(3, 40)
            yield Turn("system", system)
        while True:
            if self._chance(0.6):
                question, answer = self._pick(self._answers)
            else:
                question, answer = self._unrelated(), self._fallback
            yield Turn("user", self._vary(question))
            if self._chance(0.1):  # a route may have sent an earlier turn to another model
                yield Turn("assistant", self._nonsense(1, 40))
            elif self._chance(0.7):  # stopped early: the choice is made by then, and more choices fit into a step
                yield Turn("assistant", " ".join(answer.split()[:5]), learned=True, whole=False)
            else:
                yield Turn("assistant", answer, learned=True)

    def _vary(self, text: str) -> str:
        """The same message as other people would type it."""
        if self._chance(0.3):
            return text
        if self._chance(0.25):
            text = text.rstrip("?.!")
        if self._chance(0.3):
            start = text if self._chance(0.5) else text[:1].lower() + text[1:]
            text = self._pick(OPENINGS) + self._pick((" ", ", ", ": ", "! ", ". ")) + start
        if self._chance(0.2):
            text = text.rstrip("?.!") + self._pick(ENDINGS)
        case = self._random.random()
        if case < 0.3:
            text = text.lower()
        elif case < 0.45:
            text = text.upper()
        if self._chance(0.05):
            text = self._pick((" ", "\n", "")) + text + self._pick((" ", "\n", ""))
        return text

    def _unrelated(self) -> str:
        """A message that no answer is for."""
        make: Callable[[], str] = self._random.choices(
            (
                lambda: self._fill(self._pick(self._texts.unrelated)),
                self._near_miss,
                lambda: self._nonsense(1, 12),
                lambda: self._nonsense(12, 80),
                lambda: self._nonsense(80, 500),
                lambda: " ".join([self._nonsense(2, 12)] * self._random.randint(5, 60)),
            ),
            (22, 12, 4, 2, 1, 1),
        )[0]
        while _bare(text := make()) in self._known:
            pass
        return text

    def _near_miss(self) -> str:
        """A known question about something else, so that no question is told by a part of its words."""
        text, _ = self._pick(self._answers)
        words = [word for word in re.findall(r"[A-Za-z][\w.-]*", text) if word.lower() not in self._texts.small_words]
        for word in self._random.sample(words, min(len(words), self._pick((1, 2)))):
            text = text.replace(word, self._word(), 1)
        return text

    def _fill(self, template: str) -> str:
        return re.sub(r"{}", lambda _: " ".join(self._word() for _ in range(self._pick((1, 1, 1, 2, 3)))), template)

    def _nonsense(self, least: int, most: int) -> str:
        count = self._random.randint(least, most)
        return " ".join(self._word() + self._pick(("", "", "", "", ",", ".", "?")) for _ in range(count))

    def _word(self) -> str:
        """A word, real or made up: unknown words are what tells most questions from ours."""
        kind = self._random.random()
        if kind < 0.08:  # a word of ours in another question does not make it ours
            word = self._pick(self._pick(self._known).split())
        elif kind < 0.6:
            word = self._pick(self._texts.words)
        elif kind < 0.95:
            word = "".join(self._pick(SYLLABLES) for _ in range(self._random.randint(1, 4)))
        elif kind < 0.98:
            word = str(self._random.randrange(10 ** self._random.randint(1, 6)))
        else:
            signs = string.ascii_lowercase + string.digits + "-_./"
            word = "".join(self._random.choices(signs, k=self._random.randint(1, 12)))
        shape = self._random.random()
        if shape < 0.2:
            return word.capitalize()
        if shape < 0.23:
            return word.upper()
        return f"{word}s" if shape < 0.35 else word

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _pick(self, options: Sequence[T]) -> T:
        return self._random.choice(options)


def _bare(text: str) -> str:
    """`text` without case and punctuation, as far as the model should care."""
    return re.sub(r"\W+", " ", text.lower()).strip()
