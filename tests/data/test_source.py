import json

import pytest
import torch

from hpt.config import from_dict, to_dict
from hpt.data.source import DataConfig, load
from hpt.errors import ConfigError, DataError

TEXT = "\n".join(f"line {i}: the loss at width {i * 7 % 64} and rate {i * 13 % 97}" for i in range(2000))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "text.txt").write_text(TEXT)
    return load(
        DataConfig(source="files", path=folder / "text.txt", vocab_size=400), cache_dir=folder / "cache"
    )


@pytest.fixture(params=["files", "synthetic"])
def any_source(request, source):
    return source if request.param == "files" else load(DataConfig(source="synthetic", vocab_size=64))


def test_batches_are_a_function_of_seed_and_step_alone(any_source):
    steps = [3, 0, 7, 1, 3]
    shuffled = {step: any_source.batch(5, step, 4, 32) for step in steps}
    in_order = [any_source.batch(5, step, 4, 32) for step in range(8)]
    for step, (inputs, targets) in shuffled.items():
        assert torch.equal(inputs, in_order[step][0]) and torch.equal(targets, in_order[step][1])
    assert len({tuple(x.flatten().tolist()) for x, _ in shuffled.values()}) == 4
    assert not torch.equal(any_source.batch(6, 3, 4, 32)[0], shuffled[3][0])


def test_shapes_types_and_the_shift_by_one(any_source):
    for inputs, targets in (any_source.batch(0, 0, 3, 16), any_source.validation(3, 16)):
        assert inputs.shape == targets.shape == (3, 16)
        assert inputs.dtype == targets.dtype == torch.int64
        assert inputs.is_contiguous() and targets.is_contiguous()
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
        assert inputs.min() >= 0 and inputs.max() < any_source.vocab_size


def test_what_every_source_tells(any_source):
    assert len(bytes.fromhex(any_source.fingerprint)) == 32
    assert json.loads(json.dumps(any_source.facts)) == any_source.facts
    assert (any_source.entropy_rate is None) == (any_source.train_tokens is not None)
    assert isinstance(any_source.decode(any_source.batch(0, 0, 1, 8)[0][0]), str)


def test_validation_windows_are_fixed_and_of_the_held_out_tail(source):
    inputs, _ = source.validation(4, 64)
    assert torch.equal(inputs, source.validation(4, 64)[0])
    assert source.decode(inputs[0]) in TEXT[-(len(TEXT) // 10) :]
    assert source.decode(source.batch(0, 0, 1, 64)[0][0]) in TEXT[: -(len(TEXT) // 10)]


def test_a_context_longer_than_the_text_says_what_would_do(source):
    longest = source.train_tokens - 1
    assert source.batch(0, 0, 1, longest)[0].shape == (1, longest)
    with pytest.raises(DataError, match=rf"(?s)text.txt has .* tokens.*context={longest}"):
        source.batch(0, 0, 1, longest + 1)
    with pytest.raises(DataError, match="held-out text of"):
        source.validation(1, len(source.held_out))


def test_installed_of_a_small_package_and_the_cache_folder_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HPT_CACHE_DIR", str(tmp_path))
    source = load(DataConfig(packages=("tqdm",), vocab_size=300))
    assert source.folder.parent == tmp_path / "tokens"
    assert set(source.facts["packages"]) == {"tqdm"} and source.facts["validation_documents"] >= 2
    assert source.train_tokens > 8 * len(source.held_out) / 2 > 1000


def test_hub_loads_a_local_folder_up_to_a_number_of_tokens(tmp_path, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    pytest.importorskip("datasets")
    (tmp_path / "set").mkdir()
    rows = (json.dumps({"text": f"{TEXT[i * 500 : i * 500 + 400]}"}) + "\n" for i in range(60))
    (tmp_path / "set/train.jsonl").write_text("".join(rows))
    source = load(
        DataConfig(source="hub", dataset=tmp_path / "set", vocab_size=300, max_tokens=2000), tmp_path
    )
    assert (source.train_tokens, len(source.held_out)) == (1800, 200)


@pytest.mark.parametrize(("batch_size", "context"), [(0, 8), (2, 0), (-1, 8)])
def test_empty_batches_are_refused(any_source, batch_size, context):
    with pytest.raises(ConfigError, match="at least 1"):
        any_source.batch(0, 0, batch_size, context)
    with pytest.raises(ConfigError, match="at least 1"):
        any_source.validation(batch_size, context)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "file"}, "source = 'file'"),
        ({"vocab_size": 256}, "too small for tokenizer='bpe'; give vocab_size=257 or more"),
        ({"tokenizer": "gpt2"}, "give vocab_size=50257"),
        ({"source": "synthetic", "vocab_size": 1}, "vocab_size"),
        ({"source": "files"}, r"source='files' needs path: DataConfig\(source='files', path="),
        ({"path": "text.txt"}, "path='text.txt' belongs to source='files', given source='installed'"),
        ({"source": "hub", "max_tokens": 100}, "needs dataset: .*fineweb-edu"),
        ({"source": "hub", "dataset": "x"}, "max_tokens=100_000_000"),
        ({"validation_every": 1}, "validation_every"),
        ({"packages": ()}, "packages"),
        ({"vocabsize": 1024}, "did you mean 'vocab_size'"),
    ],
)
def test_bad_configs_are_refused_with_the_corrected_call(values, message):
    with pytest.raises(ConfigError, match=message):
        DataConfig(**values)


def test_a_config_survives_its_dictionary(tmp_path):
    synthetic = DataConfig(source="synthetic", vocab_size=2)
    for config in (DataConfig(), DataConfig(source="files", path=tmp_path), synthetic):
        assert from_dict(DataConfig, json.loads(json.dumps(to_dict(config)))) == config
    assert DataConfig(source="files", path=tmp_path).path == str(tmp_path)
