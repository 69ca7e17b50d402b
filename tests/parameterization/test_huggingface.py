"""Hugging Face models made from configurations: roles without hand mapping, Trainer, the meta
device."""

import pytest
import torch

import hpt
from hpt.errors import ConfigError, ForwardWarning
from hpt.parameterization.groups import assign

transformers = pytest.importorskip("transformers")

WIDTH, BASE, VOCABULARY = 64, 32, 96
COMMON = {"num_hidden_layers": 2, "num_key_value_heads": 2, "vocab_size": VOCABULARY}


def config(kind, n):
    heads = {
        "hidden_size": n,
        "intermediate_size": 5 * n // 2,
        "num_attention_heads": n // 16,
        **COMMON,
        "num_key_value_heads": n // 32,
    }
    ends = {"bos_token_id": 1, "eos_token_id": 1}
    return {
        "gpt2": lambda: transformers.GPT2Config(
            n_embd=n, n_layer=2, n_head=n // 16, vocab_size=VOCABULARY, n_positions=24, **ends
        ),
        "llama": lambda: transformers.LlamaConfig(**heads),
        "llama-tied": lambda: transformers.LlamaConfig(**heads, tie_word_embeddings=True),
        "qwen2": lambda: transformers.Qwen2Config(**heads),
        "qwen3": lambda: transformers.Qwen3Config(**heads, head_dim=16),
        "mixtral": lambda: transformers.MixtralConfig(**heads, num_local_experts=4),
        "qwen3-moe": lambda: transformers.Qwen3MoeConfig(
            **heads, head_dim=16, moe_intermediate_size=n, num_experts=4
        ),
    }[kind]()


def build(kind, n=WIDTH, device="cpu"):
    with torch.device(device):
        return transformers.AutoModelForCausalLM.from_config(config(kind, n))


KINDS = ["gpt2", "llama", "llama-tied", "qwen2", "qwen3", "mixtral", "qwen3-moe"]


def expected_role(name):
    if any(part in name for part in ("embed_tokens", "wte", "wpe")):
        return "embedding"
    if "lm_head" in name or "mlp.gate.weight" in name:  # a router of experts maps the width to a fixed size
        return "readout"
    if "norm" in name or "ln_" in name or name.endswith("bias"):
        return "vector"
    return "hidden"


@pytest.mark.parametrize("kind", KINDS)
def test_roles_without_hand_mapping(kind):
    model = build(kind, device="meta")
    for given in ({"base_model": build(kind, BASE, "meta")}, {"base_width": BASE}):
        found = assign(model, "sp+embd", **given)
        assert set(found) == {n for n, _ in model.named_parameters()}
        assert {n: a.role.role for n, a in found.items()} == {n: expected_role(n) for n in found}
        assert all(a.m == 2 for a in found.values())
        tied = [n for n, a in found.items() if a.role.tied_to]
        assert bool(tied) == bool(model.config.tie_word_embeddings)


@pytest.mark.parametrize("kind", KINDS)
def test_fans_are_those_of_the_maps(kind):
    """fan_in and fan_out of every matrix, from the configuration."""
    model = build(kind, device="meta")
    c = model.config
    inner = (
        4 * WIDTH
        if kind == "gpt2"
        else c.moe_intermediate_size
        if kind == "qwen3-moe"
        else c.intermediate_size
    )
    fans = {
        "q_proj": (WIDTH, WIDTH),
        "k_proj": (WIDTH, 32),
        "v_proj": (WIDTH, 32),
        "o_proj": (WIDTH, WIDTH),
        "gate_up_proj": (WIDTH, 2 * inner),
        "up_proj": (WIDTH, inner),
        "gate_proj": (WIDTH, inner),
        "down_proj": (inner, WIDTH),
        "c_attn": (WIDTH, 3 * WIDTH),
        "c_fc": (WIDTH, inner),
        "mlp.c_proj": (inner, WIDTH),
        "attn.c_proj": (WIDTH, WIDTH),
        "lm_head": (WIDTH, VOCABULARY),
        "mlp.gate.": (WIDTH, 4),
        "embed_tokens": (VOCABULARY, WIDTH),
        "wte": (VOCABULARY, WIDTH),
        "wpe": (24, WIDTH),
    }
    for name, a in assign(model, "SP", base_width=BASE).items():
        if a.role.role != "vector":
            part = next(p for p in fans if p in name)
            assert (a.role.fan_in, a.role.fan_out) == fans[part], name


def test_init_has_the_sizes_of_the_rule():
    model = build("mixtral", 128)
    hpt.init_weights(model, "mup-table3", base_width=BASE, generator=torch.Generator().manual_seed(0))
    std = {n: p.detach().std().item() for n, p in model.named_parameters() if p.ndim > 1}
    assert std["model.embed_tokens.weight"] == pytest.approx(1, rel=0.03)
    assert std["model.layers.1.mlp.experts.down_proj"] == pytest.approx(320**-0.5, rel=0.03)
    assert std["lm_head.weight"] == pytest.approx(128**-0.5 / 2, rel=0.03)


def test_a_foreign_model_needs_a_base():
    with pytest.raises(ConfigError, match="base_width=256"):
        hpt.param_groups(build("llama", device="meta"), "sp+embd", lr=0.1)
    at_base = hpt.param_groups(build("llama", device="meta"), "mup-table3", lr=0.1, base_width=WIDTH)
    assert {g["lr"] for g in at_base} == {0.1}


@pytest.mark.parametrize("kind", ["gpt2", "llama", "mixtral"])
def test_the_attention_scale_is_said_and_its_two_lines_work(kind):
    model = build(kind)
    with pytest.warns(ForwardWarning, match="scales attention logits by 0.0625") as caught:
        hpt.param_groups(model, "mup", lr=0.1, base_width=BASE)
    text = str(caught[0].message)
    assert "constant factor" in text
    assert any("0.0625" in n for n in hpt.describe(model, "mup", lr=1, base_width=32).notes)
    ids = torch.arange(8)[None]
    before = model(ids).logits
    lines = [line[4:] for line in text.split("try:\n")[1].splitlines()]
    exec("\n".join(lines), {"model": model})
    hpt.param_groups(model, "mup", lr=0.1, base_width=BASE)  # warnings are errors here
    assert not torch.equal(model(ids).logits, before)
    hpt.param_groups(build(kind), "mup-table3", lr=0.1, base_width=BASE)  # equal at the base: nothing to say


def test_a_head_that_grows_needs_the_scale():
    def make(n):
        c = config("llama", n)
        c.head_dim, c.num_attention_heads, c.num_key_value_heads = n // 2, 2, 2
        return transformers.LlamaForCausalLM(c)

    with pytest.warns(ForwardWarning, match=r"scales attention logits by 0.0883883") as caught:  # √8/32
        hpt.param_groups(make(64), "mup-table3", lr=0.1, base_model=make(16))
    assert "constant factor" not in str(caught[0].message)


def test_seventy_billion_parameters_cost_nothing():
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                hidden_size=8192,
                intermediate_size=28672,
                num_hidden_layers=80,
                num_attention_heads=64,
                num_key_value_heads=8,
                vocab_size=128256,
            )
        )
    groups = hpt.param_groups(model, "sp+embd", lr=1e-4, base_width=1024, weight_decay=0.1)
    assert sum(p.numel() for g in groups for p in g["params"]) == 70_553_706_496
    assert all(p.is_meta for g in groups for p in g["params"])
    assert {g["name"]: len(g["params"]) for g in groups} == {
        "embedding": 1,
        "hidden": 7 * 80,
        "vector": 161,
        "readout": 1,
    }


def test_trainer_takes_the_groups(tmp_path):
    """A worked example: two epochs of a tiny Llama with transformers.Trainer."""
    torch.manual_seed(0)
    model = build("llama")
    groups = hpt.param_groups(model, "sp+embd", lr=2e-3, base_width=BASE, weight_decay=0.1)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    rows = [{"input_ids": (ids := torch.arange(i, i + 12) % VOCABULARY), "labels": ids} for i in range(32)]
    trainer = transformers.Trainer(
        model=model,
        train_dataset=rows,
        optimizers=(optimizer, None),
        args=transformers.TrainingArguments(
            output_dir=tmp_path,
            num_train_epochs=2,
            per_device_train_batch_size=8,
            lr_scheduler_type="constant",
            report_to=[],
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            use_cpu=True,
        ),
    )
    trainer.train()
    losses = [e["loss"] for e in trainer.state.log_history if "loss" in e]
    assert losses[-1] < losses[0] - 0.5
    assert {g["name"]: g["lr"] for g in trainer.optimizer.param_groups} == pytest.approx(
        {"embedding": 4e-3, "hidden": 2e-3, "vector": 2e-3, "readout": 2e-3}
    )
