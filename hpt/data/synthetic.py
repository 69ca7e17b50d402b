"""A language whose entropy rate is known exactly: Zipf's law, given a hidden state of word classes.

Shapes: B texts, T tokens of each, S states, V tokens of the vocabulary or their ranks.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hpt.data.batches import Batch, check_sizes, sha256_of, shifted, uniforms
from hpt.errors import ConfigError

#: How far log ranks differ between states: their laws differ, yet the marginal has a heavy tail.
SPREAD = 0.75
MAX_CELLS = 1 << 28


class SyntheticSource:
    """A stationary, unifilar hidden-Markov source of tokens, endless.

    Every token belongs to one of K classes. The hidden state s is the classes of the last ``order``
    tokens, so there are S = K^order states and the next state is a function of state and token. In
    state s the token of rank r has probability ∝ r^(−exponent), with ranks permuted by state. Given
    the state every token has the entropy H of that Zipf law, so the entropy rate is Σ_s π_s H = H
    (Shannon 1948, §7: the entropy of a source with finitely many states). The state is hidden in
    the first ``order`` tokens of a window only, and there the best possible loss is higher.

    Parameters
    ----------
    vocab_size, exponent, classes, order: V, and those above; no more classes than tokens.
    language: the seed of the permutations.

    Attributes
    ----------
    entropy_rate: nats a token.
    fingerprint: hex; changes if and only if a token would.
    train_tokens: None, endless.
    facts: plain values for a report.
    zipf_V: the probability of each rank.
    token_SxV: the token of each rank in each state.
    next_SxV: the state after the token of each rank in each state.
    stationary_S: the probability of each state.

    Raises
    ------
    ConfigError: states × vocabulary do not fit into memory.
    """

    train_tokens = None

    def __init__(
        self, *, vocab_size: int, exponent: float = 1.0, classes: int = 8, order: int = 2, language: int = 0
    ):
        classes = min(classes, vocab_size)
        states = classes**order
        if states * vocab_size > MAX_CELLS:
            raise ConfigError(
                f"{states:,} states × {vocab_size:,} tokens are more than {MAX_CELLS:,} cells.",
                "the number of states is classes to the power of order",
                "fewer classes, or order=1",
            )
        self.vocab_size = vocab_size
        self.facts = {
            "states": states,
            "classes": classes,
            "order": order,
            "zipf_exponent": exponent,
            "language": language,
        }
        u = uniforms(language, 0, vocab_size * (states + 2), "language")
        u = u.reshape(states + 2, vocab_size)
        weight_V = np.arange(1, vocab_size + 1, dtype=np.float64) ** -exponent
        self.zipf_V = weight_V / weight_V.sum()
        self.entropy_rate = float(-self.zipf_V @ np.log(self.zipf_V))
        # Equal shares of the tokens, so that no class is empty.
        class_V = _order(_order(u[0])) % classes
        self.token_SxV = _tokens_by_rank(u[1], u[2:])
        entered_SxV = np.arange(states)[:, None] * classes + class_V[self.token_SxV]
        self.next_SxV = entered_SxV % states
        self.stationary_S = _stationary(self.next_SxV, self.zipf_V)
        header = f"hpt synthetic {vocab_size} {exponent!r} {classes} {order}"
        self.fingerprint = sha256_of(header, self.token_SxV, self.next_SxV)

    def check(self, count: int, context: int) -> None:
        """Nothing is too long for an endless source."""

    def batch(self, seed: int, step: int, batch_size: int, context: int) -> Batch:
        """Inputs and targets, int64 of shape (batch_size, context), a function of the arguments
        alone."""
        check_sizes(batch_size, context)
        return shifted(self.sample(seed, step, batch_size, context + 1))

    def validation(self, count: int, context: int) -> Batch:
        """``count`` fixed windows that no training seed can draw, int64 of shape (count,
        context)."""
        check_sizes(count, context)
        return shifted(self.sample(0, 0, count, context + 1, "validation"))

    def sample(self, seed: int, step: int, count: int, length: int, stream: str = "train") -> np.ndarray:
        """``count`` independent stationary texts, int64 of shape (count, length)."""
        u_BxT1 = uniforms(seed, step, count * (length + 1), stream).reshape(count, length + 1)
        rank_BxT = _draw(self.zipf_V, u_BxT1[:, 1:])
        state_B = _draw(self.stationary_S, u_BxT1[:, 0])
        state_BxT = np.empty_like(rank_BxT)
        for t in range(length):
            state_BxT[:, t] = state_B
            state_B = self.next_SxV[state_B, rank_BxT[:, t]]
        return self.token_SxV[state_BxT, rank_BxT]

    def decode(self, ids: Iterable[int]) -> str:
        """Token ids as words: "w17 w4 …"."""
        return " ".join(f"w{int(i)}" for i in ids)


def _order(x):
    """Indices that sort the last axis; twice, the rank of each entry."""
    return np.argsort(x, axis=-1, kind="stable")


def _tokens_by_rank(u_V, u_SxV):
    """The token of each rank in each state: a common order, with noise of each state's own."""
    log_rank_V = np.log1p(_order(_order(u_V)))
    noise_SxV = np.log(-np.log1p(-u_SxV)) * SPREAD
    return _order(log_rank_V + noise_SxV)


def _stationary(next_SxV, zipf_V):
    """π with π P = π and Σ π = 1; unique, because every state reaches every other in ``order``
    steps."""
    states = len(next_SxV)
    p_SxS = np.stack([np.bincount(next_V, zipf_V, minlength=states) for next_V in next_SxV])
    equations = np.vstack([p_SxS.T - np.eye(states), np.ones(states)])
    solution_S = np.linalg.lstsq(equations, np.append(np.zeros(states), 1.0), rcond=None)[0]
    positive_S = solution_S.clip(0.0)
    return positive_S / positive_S.sum()


def _draw(p, u):
    """Inverse of the cumulative law ``p`` at ``u`` in [0, 1), int64."""
    return np.minimum(np.searchsorted(np.cumsum(p), u, side="right"), len(p) - 1)
