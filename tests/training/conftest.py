"""A run whose step is compiled, and where the programs of all tests are."""

import dataclasses
import os

import pytest


@pytest.fixture
def programs(_own_cache, tmp_path_factory, monkeypatch):
    """All tests, of the suite's other process too, share what is compiled."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    monkeypatch.setenv("HPT_CACHE_DIR", str(folder / "compiled"))
    return folder / "compiled" / "programs"


@pytest.fixture
def run(tiny_run):
    model = dataclasses.replace(tiny_run.model, depth=1)
    train = dataclasses.replace(tiny_run.train, steps=30, clip=0.8)
    return dataclasses.replace(tiny_run, model=model, train=train)
