"""What the notebooks ask a reader to write, and our answers; in words, with hints, in tasks.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from hpt.model.transformer import ModelConfig, Transformer
from hpt.parameterization.groups import param_groups


def unchanged(result: Any, *arguments: Any) -> Any:
    """The result of an answer as it is."""
    return result


@dataclass(frozen=True)
class Task:
    """One exercise.

    Attributes
    ----------
    name: notebook and function, such as "03.embedding_lr".
    truth: our answer.
    cases: arguments that answers are tried on.
    read: result and arguments → what is compared of it.
    stars, minutes: difficulty, one to three, and how long it takes.
    hints: three, each saying more.
    """

    name: str
    truth: Callable
    cases: tuple[tuple, ...]
    read: Callable = unchanged
    stars: int = 1
    minutes: int = 5
    hints: tuple[str, ...] = ()

    def __str__(self) -> str:
        stars = "★" * self.stars
        return f"{stars:☆<3} {self.minutes} min"


#: Every exercise by name.
TASKS: dict[str, Task] = {}
_FILE = resources.files("hpt.exercises") / "tasks.toml"
_WORDS = tomllib.loads(_FILE.read_text(encoding="utf-8"))


def task(number: str, *cases: tuple, read: Callable = unchanged) -> Callable:
    """Makes a function our answer to the exercise of its name in that notebook; cases that a file can
    hold stand in tasks.toml."""

    def register(truth):
        name = f"{number}.{truth.__name__}"
        words = dict(_WORDS[name])
        written = words.pop("cases", [])
        every = [*cases]
        for case in written:
            every.append(tuple(map(_argument, case)))
        TASKS[name] = Task(name, truth, tuple(every), read, **words)
        return truth

    return register


def _argument(value):
    return np.array(value) if isinstance(value, list) else value


def rates_by_name(groups, model, *_) -> dict[str, float]:
    """Of each parameter of a model, the learning rate that optimizer groups give it."""
    rate_of = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    return {name: rate_of[id(p)] for name, p in model.named_parameters() if id(p) in rate_of}


@task("00")
def octaves(lr, other):
    return np.log2(other / lr)


@task("00")
def guessing_loss(vocab_size):
    return np.log(vocab_size)


#: Losses of a wide model by log2 of the learning rate.
_WIDE = {-8: 4.18, -7: 4.12, -6: 4.15, -5: 4.37}


@task("01", ({-5: 4.65, -6: 4.84}, _WIDE), (_WIDE, _WIDE), ({-7: 3.0, -8: 3.2}, _WIDE), ({-3: 1.0}, _WIDE))
def price(narrow, wide):
    tuned = min(narrow, key=narrow.get)
    return wide.get(tuned, np.nan) - min(wide.values())


@task("02")
def update_size(lr, fan_in, lookup):
    return lr if lookup else lr * fan_in


@task("02")
def hidden_rate(width, tuned_lr, tuned_width):
    return tuned_lr * tuned_width / width


@task("02")
def one_token_update(delta, x, lr):
    return -lr * np.sign(delta) * np.abs(x).sum()


@task("03")
def embedding_lr(lr, width, base_width=1):
    return lr * width / base_width


_NARROW_MODEL = Transformer(ModelConfig(width=16, depth=1, d_head=8, vocab_size=16))
_WIDE_MODEL = Transformer(ModelConfig(width=32, depth=1, d_head=8, vocab_size=16))


@task("03", (_NARROW_MODEL, 0.01, 1), (_WIDE_MODEL, 0.01, 1), (_WIDE_MODEL, 0.01, 16), read=rates_by_name)
def groups(model, lr, base_width=1):
    return param_groups(model, "sp+embd", lr=lr, base_width=base_width)


@task("04")
def hidden(m):
    return m**-0.5, 1 / m


@task("04")
def embedding(m):
    return 1, 1


@task("04")
def readout(m):
    return 1 / m, 1 / m


@task("05")
def law_loss(m, lr, L_inf, A, alpha, ln_lr, beta, h, gamma_log):
    from_optimum = np.log(lr) - ln_lr + beta * np.log(m)
    return L_inf + A * m**-alpha + h * m**gamma_log * from_optimum**2 / 2


@task("05")
def error(residuals):
    return np.sqrt(np.mean(np.square(residuals)))


@task("05")
def kappa(alpha, beta, gamma):
    return alpha - 2 * beta + gamma


@task("06", ({(0, 0): 3.68, (1, 0): 3.47, (0, 1): 3.65, (1, 1): 3.42},))
def main_effect(loss):
    without = loss[1, 0] - loss[0, 0]
    beside = loss[1, 1] - loss[0, 1]
    return (without + beside) / 2


@task("11")
def transferred(lr, width, target, beta):
    return lr * (target / width) ** -beta


@task("11")
def at_edge(losses):
    return np.argmin(losses) in (0, len(losses) - 1)


@task("12")
def vertex(log2_lr, loss):
    a, b, _ = np.polyfit(log2_lr, loss, 2)
    return -b / (2 * a)
