"""A run's configuration with some of its values changed."""

import dataclasses

import hpt


def changed(run, parameterization="SP", seed=0, **values):
    """The run in another parameterization and seed, with these values of its TrainConfig."""
    return dataclasses.replace(
        run,
        parameterization=hpt.Parameterization.parse(parameterization),
        seed=seed,
        train=dataclasses.replace(run.train, **values),
    )
