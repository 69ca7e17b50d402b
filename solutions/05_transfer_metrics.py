"""Solutions of notebook 05, and mistakes that are often made."""

import math

import numpy as np


def law_loss(m, lr, L_inf, A, alpha, ln_lr, beta, h, gamma_log):
    """The floor, what width can still gain, and half the curvature times the squared distance from the
    optimum."""
    u = np.log(lr) - (ln_lr - beta * np.log(m))
    return L_inf + A * m**-alpha + h * m**gamma_log * u**2 / 2


def error(residuals):
    """Root of the mean of the squares."""
    return np.sqrt(np.mean(np.square(residuals)))


def kappa(alpha, beta, gamma):
    """A mistake costs h ∝ η*² · n^γ = n^(γ − 2β); what is left to gain goes as n^(−α)."""
    return alpha - 2 * beta + gamma


def _law(m, lr, L_inf, A, alpha, ln_lr, beta, h, gamma_log, sign=1, half=0.5, log=np.log):
    u = log(lr) - ln_lr + sign * beta * np.log(m)
    return L_inf + A * m**-alpha + half * h * m**gamma_log * u**2


MISTAKES = {
    "law_loss": [
        lambda *theta: _law(*theta, sign=-1),  # an optimum that rises with the width
        lambda *theta: _law(*theta, half=1),  # the ½ of ½ h u²
        lambda *theta: _law(*theta, log=np.log2),  # octaves where nats belong
        lambda *theta: _law(*theta, log=math.log),  # does not take arrays
        lambda m, lr, L_inf, A, alpha, *rest: L_inf + A * m**-alpha,  # the optimum alone
    ],
    "error": [
        lambda residuals: np.mean(residuals),  # misses cancel
        lambda residuals: np.mean(np.abs(residuals)),  # another norm
        lambda residuals: np.mean(np.square(residuals)),  # the root
        lambda residuals: np.std(residuals),  # a common miss is a miss
        lambda residuals: np.sqrt(np.sum(np.square(residuals))),  # grows with the number of runs
    ],
    "kappa": [
        lambda alpha, beta, gamma: gamma - 2 * beta,  # the cost alone: γ_log
        lambda alpha, beta, gamma: gamma - 2 * beta - alpha,  # dividing by n^(−α) adds
        lambda alpha, beta, gamma: alpha + gamma,  # h is not the curvature in η
        lambda alpha, beta, gamma: alpha - beta + gamma,  # η* is squared
    ],
}
