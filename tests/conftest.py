"""Small runs that many tests share."""

import dataclasses
import os
import shutil
import subprocess
import sys

import pytest
import torch
from known_laws import noisy

from hpt.data.source import DataConfig
from hpt.metrics.transfer import transfer_report
from hpt.model.transformer import ModelConfig
from hpt.runs.run_config import RunConfig
from hpt.runs.train_config import TrainConfig
from hpt.study.study import Study

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's token cache."""
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("HPT_CACHE_STAND_IN", raising=False)


@pytest.fixture(scope="session")
def run_on_small_disk(tmp_path_factory):
    """Runs a program in a mount namespace where the folder of its first argument is a tmpfs of one megabyte;
    then ``shell`` before it, such as "mount -o remount,ro $DISK"."""
    folder = tmp_path_factory.mktemp("disk")

    def run(program, *args, shell=":", **environment):
        mounted = f"mount -t tmpfs -o size=1m tmpfs {folder}"
        command = f'export DISK={folder}; {mounted} && {shell} && exec "$@"'
        return subprocess.run(
            ["unshare", "-rm", "sh", "-c", command, "sh", sys.executable, "-c", program, folder, *args],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "HPT_HEADLESS": "1"} | environment,
        )

    try:
        answer = run("print('here')").stdout
    except OSError:
        answer = ""
    if answer != "here\n":
        pytest.skip("no tmpfs in a user namespace on this machine")
    return run


@pytest.fixture(scope="session")
def report():
    """The report of a sweep of known laws."""
    return transfer_report(noisy(), bootstraps=200)


@pytest.fixture(scope="session")
def tiny_run() -> RunConfig:
    """A run of well under a second on the synthetic source."""
    return RunConfig(
        model=ModelConfig(width=16, depth=2, d_head=8, vocab_size=32, context=16),
        data=DataConfig(source="synthetic", vocab_size=32),
        train=TrainConfig(
            lr=2.0**-6, steps=12, warmup_steps=2, batch_size=4, validation_sequences=8, precision="fp32"
        ),
    )


@pytest.fixture
def tiny_study(tiny_run) -> Study:
    """A study of twelve grid points."""
    return Study(
        name="tiny",
        base=dataclasses.replace(tiny_run, train=dataclasses.replace(tiny_run.train, steps=6)),
        parameterizations=("SP", "μP"),
        log2_lrs={8: (-8, -6, -4), 16: (-8, -6, -4)},
        best_seeds=2,
        extend=1,
    )


@pytest.fixture(scope="session")
def browser():
    """A real browser, which reaches this machine alone."""
    webdriver = pytest.importorskip("selenium.webdriver")
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver_path = shutil.which("chromedriver")
    if not binary or not driver_path:
        pytest.skip("no chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1300,1000",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    yield driver
    driver.quit()


def pytest_collection_modifyitems(items):
    """The main job takes longest, so it starts first and the other process runs the rest
    meanwhile. Without a GPU its tests are skipped, and unless asked for those of thousands of inputs."""
    items.sort(key=lambda item: item.name != "test_the_main_job")
    for item in items:
        if item.get_closest_marker("fuzz") and "fuzz" not in item.config.option.markexpr:
            item.add_marker(pytest.mark.skip(reason="ten thousand inputs: -m fuzz"))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))
