"""Roles of every language model class of transformers: right, refused, or wrong.

Each causal, masked and sequence-to-sequence class is built at its configuration's sizes, two layers
deep, on the meta device, once as it is and once twice as wide (the sizes that a user would type, by
name). The wide one is asked by ``base_width`` and by ``base_model``. Right is: the input table an
embedding, the output matrix a readout or tied, the matrices of attention and MLPs hidden, every layer of
torch what its growing axes say, next to nothing fixed, and both ways agree. A refusal counts as such if
the call that it prints works, and what comes of it is right as well.

``python benchmarks/breadth.py [CLASS …]``
"""

import argparse
import re
import sys
import time
import warnings
from collections import Counter
from typing import NamedTuple

import torch
import transformers
from torch import nn
from transformers.models.auto import modeling_auto
from transformers.pytorch_utils import Conv1D

from hpt.errors import ConfigError, HptError
from hpt.parameterization.groups import assign
from hpt.parameterization.layers import input_table, output_matrix
from hpt.parameterization.wider import huggingface_width, wider_huggingface_copy

#: Twenty families of unlike make, for the tests.
SAMPLE = (
    "LlamaForCausalLM GPT2LMHeadModel OPTForCausalLM MixtralForCausalLM GptOssForCausalLM "
    "DeepseekV3ForCausalLM Gemma3ForConditionalGeneration MambaForCausalLM "
    "RwkvForCausalLM xLSTMForCausalLM FalconForCausalLM "
    "BertForMaskedLM XLMRobertaForMaskedLM AlbertForMaskedLM ElectraForMaskedLM RoFormerForMaskedLM "
    "T5ForConditionalGeneration BartForConditionalGeneration WhisperForConditionalGeneration DbrxForCausalLM"
).split()
#: What a user would halve for a narrower model, by the sound of its name; the size of a head stays.
WIDTHS = re.compile(
    r"(hidden|embed|embedding|intermediate|model|inner|ffn?|latents|out|downsample_hidden)_?(size|width|dim|channels)s?$"
    r"|^d_(model|ff|inner|latents|ssm)$|^n_(embd|inner|heads?|embed)$|^(emb_|ffn_|mlp_|qkv_)?dim(_ff)?$|^d(ff|im)$"
    r"|heads(_per_layer)?$|lora_rank$|^time_step_rank$|mamba_d_ssm|mamba_dt_rank|_bottleneck_size|emb_size$"
    r"|hidden_size_(global|per_layer_input)|embed_proj_dim|^v_channels|^qk_channels|^lru_width|axial_pos_embds_dim|num_filters"
)
NO_WIDTHS = re.compile(r"vocab|head_dim|patch|image|kernel|max_|window|chunk|position")
DEPTHS = re.compile(
    r"^(num_(hidden|decoder|encoder)?_?layers|n_layers?|(encoder|decoder)_layers|num_blocks|depth)$"
)
#: Matrices whose role is beyond doubt, in a block.
INSIDE = re.compile(
    r"\.\d+\.(self_attn|self_attention|attn|attention|attention\.self|mlp|ffn|feed_forward)\.(q|k|v|o|query|key|value|up|down|gate|gate_up|qkv|fc1|fc2|c_fc|wi|wi_0|wi_1|wo|out|dense_h_to_4h|"
    r"dense_4h_to_h|query_key_value)(_proj)?\.weight$"
)


class Outcome(NamedTuple):
    """What came of one class: right, refused, wrong or unbuildable, and why."""

    name: str
    kind: str
    why: str = ""


def classes() -> list[str]:
    """Names of all classes, each once."""
    maps = (
        modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )
    return sorted({name for each in maps for name in each.values()})


def parts_of(config):
    """A configuration and those within it."""
    yield config
    for value in vars(config).values():
        if isinstance(value, transformers.PretrainedConfig):
            yield from parts_of(value)


def shallow(config, layers=2):
    """The configuration with few layers, and lists of one entry a layer as short."""
    for part in parts_of(config):
        depths = {
            key: value for key, value in vars(part).items() if DEPTHS.search(key) and type(value) is int
        }
        for key, depth in depths.items():
            if depth > layers:
                for own, value in list(vars(part).items()):
                    if isinstance(value, list) and len(value) == depth:
                        setattr(part, own, value[:layers])
                setattr(part, key, layers)
    return config


def widened(config, factor):
    """The configuration with all that a user would call its widths times ``factor``."""
    for part in parts_of(config):
        for key, value in list(vars(part).items()):
            if (
                WIDTHS.search(key)
                and not NO_WIDTHS.search(key)
                and key not in getattr(part, "attribute_map", {})
            ):
                if type(value) is int:
                    setattr(part, key, factor * value)
                elif isinstance(value, list | tuple) and all(type(each) is int for each in value):
                    setattr(part, key, type(value)(factor * each for each in value))
    return config


#: What a configuration needs that its defaults lack.
NEEDS = {
    "EsmForMaskedLM": {"vocab_size": 33, "pad_token_id": 1},
    "ReformerModelWithLMHead": {"is_decoder": True},
    "Lfm2MoeForCausalLM": {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2},
    "DbrxForCausalLM": {"attn_config": {"rope_theta": 1e4}},
    "NemotronForCausalLM": {"num_key_value_heads": 48, "head_dim": 128},
    "Dots1ForCausalLM": {"n_routed_experts": 8, "num_key_value_heads": 32, "n_shared_experts": 1},
    "HunYuanDenseV1ForCausalLM": {"head_dim": 128},
    "HunYuanMoEV1ForCausalLM": {"head_dim": 128},
    "MinistralForCausalLM": {"head_dim": 128},
}


def configurations(name):
    """The configuration two layers deep, and as it is for a class that needs all its layers."""
    kind = getattr(transformers, name)
    needs = NEEDS.get(name, {})
    yield shallow(kind.config_class(**needs))
    yield kind.config_class(**needs)


def build(name, factor):
    kind = getattr(transformers, name)
    for config in configurations(name):
        try:
            with torch.device("meta"):
                return kind(widened(config, factor) if factor > 1 else config)
        except Exception as error:
            failed = error
    raise failed


def by_growth(model, other):
    """The role of each layer of torch by what grows of it, as name → role (Yang et al. 2022)."""
    shapes = {name: tuple(p.shape) for name, p in other.named_parameters(remove_duplicate=False)}
    axes = {nn.Linear: (1, 0), nn.Embedding: (0, 1), Conv1D: (0, 1)}
    roles = {(True, True): "hidden", (False, True): "embedding", (True, False): "readout"}
    for name, layer in model.named_modules():
        own = next((axes[kind] for kind in axes if isinstance(layer, kind)), None)
        if own and f"{name}.weight" in shapes:
            grown = tuple(layer.weight.shape[i] != shapes[f"{name}.weight"][i] for i in own)
            yield f"{name}.weight", layer.weight, roles.get(grown, "fixed")


def growth_faults(model, other, role_of):
    """Layers that have another role than their growth says; keys and values may be hidden with heads
    whose number stays, and a tied matrix has one of two roles."""
    for name, weight, expected in by_growth(model, other):
        role = role_of[id(weight)]
        is_key = expected == "readout" and role.role == "hidden" and role.note
        if role.role != expected and not role.tied_to and not is_key:
            yield f"{name} {role.role}, and grows as {expected}"


def single_axis_faults(model, other, assigned):
    """What is called hidden though one axis grows at most."""
    shapes = dict(other.named_parameters(remove_duplicate=False))
    for name, each in assigned.items():
        pairs = zip(model.get_parameter(name).shape, shapes[name].shape, strict=True)
        grown = sum(here != there for here, there in pairs)
        if each.role.role == "hidden" and grown < 2 and not each.role.note:
            yield f"{name} hidden, and {grown} of its axes grow"


def faults(model, assigned, other):
    """What is wrong with the roles of a model, by what differs from its other copy."""
    named = dict(model.named_parameters())
    role_of = {id(named[name]): each.role for name, each in assigned.items()}
    table, output = input_table(model), output_matrix(model)
    if table is not None and role_of[id(table)].role != "embedding":
        yield f"input table {role_of[id(table)].role}"
    if output is not None:
        role = role_of[id(output)]
        if role.role != "readout" and not role.tied_to and output is not table:
            yield f"output matrix {role.role}"
    yield from growth_faults(model, other, role_of)
    yield from single_axis_faults(model, other, assigned)
    for name, each in assigned.items():
        layer = model.get_submodule(name.rpartition(".")[0])
        is_inside = INSIDE.search(name) and isinstance(layer, nn.Linear | Conv1D)
        if is_inside and each.role.role != "hidden":
            yield f"{name} {each.role.role}"
    elements = Counter()
    for name, each in assigned.items():
        elements[each.role.role] += named[name].numel()
    share = elements["fixed"] / sum(elements.values())
    if share > 0.02:
        yield f"{share:.0%} fixed"


def ask(model, **options):
    """Roles by one way of asking, and how often it was refused before the printed call worked."""
    said = {}
    for refused in range(3):
        try:
            return assign(model, "mup", roles=said or None, warn=False, **options), refused
        except ConfigError:
            return None, 1
        except HptError as error:
            if "roles={" not in str(error):
                raise
            said = eval("{" + str(error).split("roles={")[1].split("}")[0] + "}") | said
    raise AssertionError(f"refused again and again: {said}")


def grown_alike(model, base):
    """The parameters of which the same axes grow in both ways of asking: what an architecture is at
    another width is for its user to say, and a name of a size may be missing above."""
    shapes = [
        {name: tuple(p.shape) for name, p in each.named_parameters()}
        for each in (wider_huggingface_copy(model), model, base)
    ]
    wider, own, narrow = shapes
    return {
        name
        for name, shape in own.items()
        if [a > b for a, b in zip(wider[name], shape, strict=True)]
        == [a > b for a, b in zip(shape, narrow[name], strict=True)]
    }


def examine(name: str) -> Outcome:
    """Build one class, ask both ways and judge."""
    try:
        base, model = build(name, 1), build(name, 2)
    except Exception as error:
        return Outcome(name, "unbuildable", f"{type(error).__name__}: {str(error).splitlines()[0][:100]}")
    width = huggingface_width(base)
    try:
        by_width, refused_width = ask(model, base_width=width)
        by_model, refused_model = ask(model, base_model=base)
    except Exception as error:
        return Outcome(name, "wrong", f"{type(error).__name__}: {str(error)[:1500]}")
    why = list(faults(model, by_model, base))
    if by_width:
        wider = wider_huggingface_copy(model)
        # Wrong is what fits neither way of widening: which sizes are widths is for the user to say.
        elsewhere = set(faults(model, by_width, base))
        why += [f"by base_width {fault}" for fault in faults(model, by_width, wider) if fault in elsewhere]
        roles = [{name: a.role.role for name, a in each.items()} for each in (by_width, by_model)]
        differ = [n for n in roles[0] if roles[0][n] != roles[1][n] and n in grown_alike(model, base)]
        why += [f"{n}: by base_width {roles[0][n]}, by base_model {roles[1][n]}" for n in differ]
    if why:
        return Outcome(name, "wrong", f"{len(why)}: {'; '.join(why[:4])}")
    kind = "refused" if refused_width or refused_model else "right"
    return Outcome(
        name, kind, f"base_width {refused_width}, base_model {refused_model}" * (kind == "refused")
    )


def main(names):
    start = time.perf_counter()
    outcomes = []
    for name in names or classes():
        begin = time.perf_counter()
        outcomes.append(examine(name))
        if outcomes[-1].kind != "right":
            print(
                f"{name}: {outcomes[-1].kind} {outcomes[-1].why} [{time.perf_counter() - begin:.1f} s]",
                flush=True,
            )
    print(dict(Counter(outcome.kind for outcome in outcomes)), f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("classes", nargs="*", help="names of classes; all by default")
    sys.exit(main(parser.parse_args().classes))
