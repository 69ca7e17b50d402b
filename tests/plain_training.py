"""A run's steps in plain torch, to hold optimizers against."""

import torch.nn.functional as F

from hpt.data.source import load


def plain_losses(run, model, take_step):
    """The training losses; ``take_step(step)`` moves the weights once the gradients are there."""
    data = load(run.data)
    losses = []
    for step in range(run.train.steps):
        inputs, targets = data.batch(run.seed, step, run.train.batch_size, run.model.context)
        model.zero_grad()
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        losses.append(loss.item())
        take_step(step)
    return losses
