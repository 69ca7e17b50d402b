"""Doubt about the law itself: how far η* may bend away from a power law where no size was measured.

Real ladders of sizes seldom follow an exact power law. What they do is taken for a random walk of
the exponent: in log2 η* = a − β·x + d(x), x = log2 n, the slope of d changes by σ octaves an octave
for each (octave of size)^½, an integrated Brownian motion (Wahba 1978: a smoothing spline is its
posterior mean). σ is unknown: a share EXACT of the prior says 0, an exact law; the rest is half-normal
with scale DRIFT. The optima's distances from the law choose among them, and a curve through the
optima, as stiff as that σ, corrects the law's prediction. Two sizes show no bend: the prior alone
speaks.

DRIFT is learned from public sweeps: 85 ladders of model size, tokens or batch size, 3 to 10 sizes
each, of Li et al. 2025 (Step Law, arXiv 2503.04715, dense and mixture-of-experts models) are most
likely with σ of 0.1 to 0.3 (restricted likelihood, a median of 0.2); a bend quadratic in x, or one of
η* itself as a random walk, explains them less well. DRIFT and EXACT were then chosen by hand on these
ladders; docs/coverage.md says what priors learned from the dense models alone, or from the others alone,
hold of those that they have not seen.

The reducible loss has a bend of the same kind: its exponent α is taken to change by LOSS_DRIFT·α
for each (octave)^½. No public ladder is long enough to learn that.

Letters: B replicates, W sizes with an optimum, N further sizes, K trial σ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import array, asarray, block, concatenate, diag, exp, hstack, log, maximum, ndarray, sqrt, stack
from numpy.linalg import eigh, qr, solve
from scipy import stats
from scipy.linalg import null_space

# Scale of σ, octaves an octave per √octave, and the share of an exact law.
DRIFT = 0.3
EXACT = 0.4
SIGMA_K = array([0.0, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.9])
# Share of α.
LOSS_DRIFT = 0.015


def prior_of_sigma(drift: float = DRIFT, exact: float = EXACT) -> ndarray:
    """Probability of each of SIGMA_K."""
    density_K = stats.halfnorm.pdf(SIGMA_K[1:], scale=drift) * np.gradient(SIGMA_K)[1:]
    return np.append(exact, (1 - exact) * density_K / density_K.sum())


def straight(x) -> ndarray:
    """What a straight line in `x` is linear in, (…, 2)."""
    return stack([np.ones_like(x), x - np.mean(x)], axis=-1)


def drift_covariance(x) -> ndarray:
    """Covariance of d at places `x` (octaves) for σ = 1, from the lowest of them on."""
    from_first = asarray(x) - np.min(x)
    near = np.minimum.outer(from_first, from_first)
    far = np.maximum.outer(from_first, from_first)
    return near**2 * (3 * far - near) / 6


@dataclass(frozen=True, eq=False)
class Bend:
    """What the optima of a group say of its bend, and B draws of it.

    Attributes
    ----------
    x_W: log2 of the sizes that have an optimum.
    variance_W: of each optimum, octaves².
    p_K: posterior of SIGMA_K.
    k_B: the σ that each replicate has drawn.
    seed: of the draws of the bend itself.
    slope_known: whether the law's slope is known from elsewhere, as where groups share it.
    """

    x_W: ndarray
    variance_W: ndarray
    p_K: ndarray
    k_B: ndarray
    seed: int
    slope_known: bool = False

    @classmethod
    def of(cls, x_W, left_W, variance_W, B: int, rng) -> Bend:
        """From the optima's distances `left_W` from the law, octaves."""
        p_K = prior_of_sigma() * likelihood_of_sigma(x_W, left_W, variance_W)
        p_K /= p_K.sum()
        k_B = rng.choice(len(p_K), B, p=p_K)
        seed = int(rng.integers(2**32))
        return cls(x_W, variance_W, p_K, k_B, seed)

    @property
    def sigma(self) -> float:
        """Root mean square of σ, octaves an octave per √octave."""
        return sqrt(self.p_K @ SIGMA_K**2)

    def weights(self, x_N) -> ndarray:
        """(K, N, W): how distances from the law at the sizes measured correct it at others, by
        universal kriging; not at all where the law is exact."""
        x_M = concatenate([self.x_W, x_N])
        covariance = drift_covariance(x_M)
        W = len(self.x_W)
        line = straight(x_M)
        if self.slope_known:
            line = line[:, :1]
        here = line[:W]
        there = line[W:]
        noise = diag(self.variance_W)
        none = np.zeros_like(here.T @ here)
        found = [np.zeros((len(x_N), W))]
        for sigma in SIGMA_K[1:]:
            drift = sigma**2 * covariance
            kriging = block([[drift[:W, :W] + noise, here], [here.T, none]])
            target = hstack([drift[W:, :W], there])
            found.append(solve(kriging, target.T)[:W].T)
        return array(found)

    def correction(self, x_N, left_W) -> ndarray:
        """Octaves (N,) to add to the law at other sizes, from distances `left_W` from it."""
        return self.p_K @ (self.weights(x_N) @ left_W)

    def drawn(self, x_N, left_BxW) -> ndarray:
        """The same in every replicate (B, N), with a bend drawn that the measured sizes cannot
        show."""
        x_N = asarray(x_N, float)
        weight_KxNxW = self.weights(x_N)
        bend_BxM = self._paths(concatenate([self.x_W, x_N]))
        W = len(self.x_W)
        seen_BxW = left_BxW - bend_BxM[:, :W]
        corrected_BxN = np.einsum("bnw,bw->bn", weight_KxNxW[self.k_B], seen_BxW)
        return corrected_BxN + bend_BxM[:, W:] * (self.k_B > 0)[:, None]

    def _paths(self, x_M):
        """Bends (B, M) drawn from the prior, each with its replicate's σ, octaves."""
        rng = np.random.default_rng(self.seed)
        return SIGMA_K[self.k_B][:, None] * _unit_paths(x_M, len(self.k_B), rng)


def likelihood_of_sigma(x_W, left_W, variance_W) -> ndarray:
    """Of each of SIGMA_K, to a factor: that of the distances' contrasts, which no straight line moves
    (restricted likelihood)."""
    contrasts = null_space(straight(x_W).T)
    if not contrasts.size:
        return np.ones_like(SIGMA_K)
    left = left_W @ contrasts
    log_p_K = []
    for sigma in SIGMA_K:
        covariance = sigma**2 * drift_covariance(x_W) + diag(variance_W)
        of_left = stats.multivariate_normal(cov=contrasts.T @ covariance @ contrasts)
        log_p_K.append(of_left.logpdf(left))
    return exp(log_p_K - np.max(log_p_K))


def _unit_paths(x_M, B, rng):
    """Draws (B, M) of d for σ = 1."""
    eigenvalue_M, Q = eigh(drift_covariance(x_M))
    root = Q * sqrt(maximum(eigenvalue_M, 0.0))
    return rng.standard_normal((B, len(x_M))) @ root.T


def mean_slope(x_W, value_BxW) -> ndarray:
    """Slope (B,) of the straight line through values at x (W,)."""
    centred_W = x_W - x_W.mean()
    return value_BxW @ centred_W / (centred_W**2).sum()


def loss_bend(x_W, alpha: float, B: int, rng) -> ndarray:
    """Relative changes (B, W) of the reducible loss at sizes `x_W` (log2), drawn from its prior.

    About a straight line: α is the mean exponent over the sizes measured.
    """
    path_BxW = LOSS_DRIFT * alpha * log(2) * _unit_paths(x_W, B, rng)
    Q, _ = qr(straight(x_W))
    return path_BxW - path_BxW @ Q @ Q.T
