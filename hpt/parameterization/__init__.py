"""Parameterization: which learning rate, initial size and multiplier each parameter gets.

Read :mod:`~hpt.parameterization.rules` (what a rule is: power laws of each role), then
:mod:`~hpt.parameterization.sixteen` (the paper's variants),
:mod:`~hpt.parameterization.named_rules` (other authors'), :mod:`~hpt.parameterization.roles` (which
parameter is an embedding, hidden, readout, vector: :mod:`~hpt.parameterization.layers` is what a
layer's type says, :mod:`~hpt.parameterization.copies` two widths side by side,
:mod:`~hpt.parameterization.growth` the role of what grows, :mod:`~hpt.parameterization.guesses` what
is likely of raw parameters, :mod:`~hpt.parameterization.doubts` the refusal,
:mod:`~hpt.parameterization.wider` the wider copy of a Hugging Face model) and
:mod:`~hpt.parameterization.groups` (the optimizer groups and initial weights of any model). The rest
serves these:
:mod:`~hpt.parameterization.optimizers`, :mod:`~hpt.parameterization.forward`,
:mod:`~hpt.parameterization.depth`, :mod:`~hpt.parameterization.description`, the coordinate check in
:mod:`~hpt.parameterization.coordinates`, and both in one call, :mod:`~hpt.parameterization.auditing`.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
