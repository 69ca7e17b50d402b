"""A language whose entropy rate is known exactly: Zipf's law, given a hidden state of word
classes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hpt.data import batches as windows
from hpt.errors import ConfigError

SHUFFLE = 0.75  # spread of log rank between states: their laws differ, yet the marginal keeps a heavy tail
MAX_CELLS = 1 << 28


@dataclass(frozen=True, eq=False)
class SyntheticSource:
    """A stationary, unifilar hidden-Markov source of tokens, endless.

    Every token belongs to one of K classes. The hidden state s is the classes of the last ``order``
    tokens, so there are S = K^order states and the next state is a function of state and token. In
    state s the token of rank r has probability ∝ r^(−exponent), with ranks permuted by state. Given
    the state every token has the entropy H of that Zipf law, so the entropy rate is Σ_s π_s H = H
    (Shannon 1948, §7: the entropy of a source with finitely many states). The state is hidden in
    the first ``order`` tokens of a window only, and there the best possible loss is higher.

    Attributes
    ----------
    vocab_size: V.
    entropy_rate: nats a token.
    fingerprint: hex; changes if and only if a token would.
    train_tokens: None, endless.
    facts: plain values for a report.
    zipf_V: the probability of each rank.
    token_SxV: the token of each rank in each state.
    next_SxV: the state after the token of each rank in each state.
    stationary_S: the probability of each state.
    """

    vocab_size: int
    entropy_rate: float
    fingerprint: str
    facts: dict[str, Any]
    zipf_V: np.ndarray = field(repr=False)
    token_SxV: np.ndarray = field(repr=False)
    next_SxV: np.ndarray = field(repr=False)
    stationary_S: np.ndarray = field(repr=False)
    train_tokens: None = None

    @classmethod
    def make(
        cls,
        *,
        vocab_size: int,
        exponent: float = 1.0,
        classes: int = 8,
        order: int = 2,
        language: int = 0,
    ) -> SyntheticSource:
        """Draw a language; ``language`` is its seed.

        Raises
        ------
        ConfigError: states × vocabulary do not fit into memory.
        """
        classes = min(classes, vocab_size)
        states = classes**order
        if states * vocab_size > MAX_CELLS:
            raise ConfigError(
                f"{states:,} states × {vocab_size:,} tokens are more than {MAX_CELLS:,} cells.",
                "the number of states is classes to the power of order",
                "fewer classes, or order=1",
            )
        zipf_V = np.arange(1, vocab_size + 1, dtype=np.float64) ** -exponent
        zipf_V /= zipf_V.sum()
        u = windows.uniforms(language, 0, vocab_size * (states + 2), "language").reshape(
            states + 2, vocab_size
        )
        class_V = np.empty(
            vocab_size, dtype=np.int64
        )  # equal shares of the tokens, so that no class is empty
        class_V[np.argsort(u[0], kind="stable")] = np.arange(vocab_size) % classes
        noise_SxV = np.log(-np.log1p(-u[2:])) * SHUFFLE
        log_rank_V = np.log1p(np.argsort(np.argsort(u[1], kind="stable"), kind="stable"))
        token_SxV = np.argsort(log_rank_V + noise_SxV, axis=1, kind="stable")
        next_SxV = (np.arange(states)[:, None] * classes + class_V[token_SxV]) % states
        stationary_S = _stationary(next_SxV, zipf_V)
        digest = hashlib.sha256(
            f"hpt synthetic {vocab_size} {exponent!r} {classes} {order}\n".encode()
        )
        for table in (token_SxV, next_SxV):
            digest.update(table.astype("<u4").tobytes())
        return cls(
            vocab_size=vocab_size,
            entropy_rate=float(-zipf_V @ np.log(zipf_V)),
            fingerprint=digest.hexdigest(),
            facts={
                "states": states,
                "classes": classes,
                "order": order,
                "zipf_exponent": exponent,
                "language": language,
            },
            zipf_V=zipf_V,
            token_SxV=token_SxV,
            next_SxV=next_SxV,
            stationary_S=stationary_S,
        )

    def batch(
        self, seed: int, step: int, batch_size: int, context: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets, int64 of shape (batch_size, context), a function of the arguments
        alone."""
        windows.check_sizes(batch_size, context)
        return windows.shift(self.sample(seed, step, batch_size, context + 1))

    def validation(self, count: int, context: int) -> tuple[torch.Tensor, torch.Tensor]:
        """``count`` fixed windows that no training seed can draw, int64 of shape (count,
        context)."""
        windows.check_sizes(count, context)
        return windows.shift(self.sample(0, 0, count, context + 1, "validation"))

    def sample(
        self, seed: int, step: int, count: int, length: int, stream: str = "train"
    ) -> np.ndarray:
        """``count`` independent stationary texts, int64 of shape (count, length)."""
        u_BxT = windows.uniforms(seed, step, count * (length + 1), stream).reshape(
            count, length + 1
        )
        rank_BxT = _draw(self.zipf_V, u_BxT[:, 1:])
        state_B = _draw(self.stationary_S, u_BxT[:, 0])
        state_BxT = np.empty((count, length), dtype=np.int64)
        for t in range(length):
            state_BxT[:, t] = state_B
            state_B = self.next_SxV[state_B, rank_BxT[:, t]]
        return self.token_SxV[state_BxT, rank_BxT]

    def decode(self, ids: Iterable[int]) -> str:
        """Token ids as words: "w17 w4 …"."""
        return " ".join(f"w{int(i)}" for i in ids)

    def best_loss_nats(self, inputs_BxT: torch.Tensor, targets_BxT: torch.Tensor) -> np.ndarray:
        """−ln p(target | all tokens before it) of the true source, shape (B, T): no model does
        better on average.

        An exact forward filter: it starts from the stationary law of the states and sees tokens
            only.
        """
        rank_SxV = np.argsort(self.token_SxV, axis=1)
        tokens_BxT1 = np.concatenate([inputs_BxT.numpy()[:, :1], targets_BxT.numpy()], axis=1)
        belief_BxS = np.broadcast_to(self.stationary_S, (len(tokens_BxT1), len(self.stationary_S)))
        states = np.arange(len(self.stationary_S))
        loss_BxT1 = np.empty(tokens_BxT1.shape)
        for t, token_B in enumerate(tokens_BxT1.T):
            rank_BxS = rank_SxV[:, token_B].T
            joint_BxS = belief_BxS * self.zipf_V[rank_BxS]
            total_B = joint_BxS.sum(axis=1)
            loss_BxT1[:, t] = -np.log(total_B)
            belief_BxS = np.zeros_like(joint_BxS)
            rows = np.arange(len(token_B))[:, None]
            np.add.at(
                belief_BxS, (rows, self.next_SxV[states, rank_BxS]), joint_BxS / total_B[:, None]
            )
        return loss_BxT1[:, 1:]


def _draw(p_K: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Inverse of the cumulative law ``p_K`` at ``u`` in [0, 1), int64."""
    return np.minimum(np.searchsorted(np.cumsum(p_K), u, side="right"), len(p_K) - 1)


def _stationary(next_SxV: np.ndarray, p_V: np.ndarray) -> np.ndarray:
    """π with π P = π and Σ π = 1; unique, because every state reaches every other in ``order``
    steps."""
    states = len(next_SxV)
    p_SxS = np.stack([np.bincount(row, weights=p_V, minlength=states) for row in next_SxV])
    equations = np.vstack([p_SxS.T - np.eye(states), np.ones(states)])
    solution, *_ = np.linalg.lstsq(equations, np.append(np.zeros(states), 1.0), rcond=None)
    return np.clip(solution, 0.0, None) / np.clip(solution, 0.0, None).sum()
