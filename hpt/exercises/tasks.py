"""What the notebooks ask a reader to write, and our answers; in words, with hints, in tasks.toml."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.optim import AdamW

from hpt.files import read_toml
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
    mistakes: pairs of what is often given in the place of the right answer, as it is printed, and what to
        say of it.
    """

    name: str
    truth: Callable
    cases: Sequence[Sequence]
    read: Callable = unchanged
    stars: int = 1
    minutes: int = 5
    hints: Sequence[str] = ()
    mistakes: Sequence[Sequence[str]] = ()

    def __str__(self) -> str:
        stars = "★" * self.stars
        return f"{stars:☆<3} {self.minutes} min"


def rates_by_name(groups: Any, model: Any, *_: Any) -> dict[str, float]:
    """Of each parameter of a model, the learning rate that optimizer groups give it; AdamW says what is
    wrong with those that it cannot take."""
    taken = AdamW(groups).param_groups
    rate_of = {id(parameter): group["lr"] for group in taken for parameter in group["params"]}
    return {name: rate_of[id(p)] for name, p in model.named_parameters() if id(p) in rate_of}


def _price(narrow, wide):
    tuned = min(narrow, key=narrow.get)
    return wide.get(tuned, np.nan) - min(wide.values())


def _groups(model, lr, base_width=1):
    return param_groups(model, "sp+embd", lr=lr, base_width=base_width)


def _law_loss(m, lr, L_inf, A, alpha, ln_lr, beta, h, gamma_log):
    from_optimum = np.log(lr) - ln_lr + beta * np.log(m)
    return L_inf + A * m**-alpha + h * m**gamma_log * from_optimum**2 / 2


def _main_effect(loss):
    without = loss[1, 0] - loss[0, 0]
    beside = loss[1, 1] - loss[0, 1]
    return (without + beside) / 2


def _transfers(losses):
    best = {min((x for x in rates if x % 2 == 0), key=rates.get) for rates in losses.values()}
    return len(best) == 1


def _vertex(log2_lr, loss):
    a, b, _ = np.polyfit(log2_lr, loss, 2)
    return -b / (2 * a)


#: Our answers.
_TRUTHS = {
    "00.octaves": lambda lr, other: np.log2(other / lr),
    "00.guessing_loss": np.log,
    "01.price": _price,
    "01.switched": lambda step, switch, early, late: early if step < switch else late,
    "02.update_size": lambda lr, fan_in, lookup: lr if lookup else lr * fan_in,
    "02.hidden_rate": lambda width, tuned_lr, tuned_width: tuned_lr * tuned_width / width,
    "02.one_token_update": lambda delta, x, lr: -lr * np.sign(delta) * np.abs(x).sum(),
    "03.embedding_lr": lambda lr, width, base_width=1: lr * width / base_width,
    "03.groups": _groups,
    "04.hidden": lambda m: (m**-0.5, 1 / m),
    "04.embedding": lambda m: (1, 1),
    "04.readout": lambda m: (1 / m, 1 / m),
    "05.law_loss": _law_loss,
    "05.error": lambda residuals: np.sqrt(np.mean(np.square(residuals))),
    "05.kappa": lambda alpha, beta, gamma: alpha - 2 * beta + gamma,
    "05b.dearer": lambda kappa, n, times: times**kappa,
    "05b.difference_sd": lambda sd, common: sd * np.sqrt(2 * (1 - common)),
    "06.main_effect": _main_effect,
    "07.dose": lambda lr, weight_decay, steps: lr * weight_decay * steps,
    "07.wider_decay": lambda weight_decay, tuned_width, width: weight_decay * width / tuned_width,
    "08.transfers": _transfers,
    "09.warmup": lambda step, warmup_steps, m: m ** min(0, step / warmup_steps - 1),
    "10.wider": lambda lr, tuned_width, width: (lr, lr * tuned_width / width),
    "11.transferred": lambda lr, width, target, beta: lr * (target / width) ** -beta,
    "11.at_edge": lambda losses: np.argmin(losses) in (0, len(losses) - 1),
    "12.vertex": _vertex,
}
_NARROW, _WIDE = (Transformer(ModelConfig(width=n, depth=1, d_head=8, vocab_size=16)) for n in (16, 32))
#: Arguments to try that a file cannot hold; the others stand in tasks.toml.
_CASES = {"03.groups": [(_NARROW, 0.01, 1), (_WIDE, 0.01, 1), (_WIDE, 0.01, 16)]}
_READ = {"03.groups": rates_by_name}


def _tasks():
    """Every exercise by name."""
    tasks = {}
    for name, words in read_toml("hpt.exercises", "tasks.toml").items():
        cases = _CASES.get(name, [])
        for case in words.pop("cases", []):
            cases.append([_argument(value) for value in case])
        tasks[name] = Task(name, _TRUTHS[name], cases, _READ.get(name, unchanged), **words)
    return tasks


def _argument(value):
    """A value of the file: a list is an array, the keys of a table are numbers."""
    if isinstance(value, dict):
        return {int(key): _argument(part) for key, part in value.items()}
    if isinstance(value, list):
        return np.array(value)
    return value


TASKS = _tasks()
