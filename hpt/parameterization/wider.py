"""The same Hugging Face architecture at twice the width, found by building it.

A configuration is a list of numbers; which of them are sizes of the width is seen by doubling them
and comparing shapes. Those that equal the input embedding's width are doubled together. Then, one
after another, each that makes an output of one matrix and an input of another grow (the inner size
of an MLP, a number of heads, a low rank), and no row of a table, class, kernel or expert.
"""

import copy
import functools
import itertools
import re
from dataclasses import dataclass, field

import torch
from torch import nn

from hpt.errors import ConfigError
from hpt.parameterization.layers import (
    EACH,
    axes_of,
    input_table,
    is_lookup,
    output_matrix,
    place_of,
    plain_name,
    shapes_of,
    unwrap,
)

#: How sizes of one head are called, which is to stay: they are tried last.
_OF_A_HEAD = re.compile(r"head_(size|dim)|dim_head|d_head|d_kv|_per_head")
#: Numbers that are no sizes, which saves building copies.
_NO_SIZE = re.compile(r"(^_)|_(id|ids|index)$")


def huggingface_width(model: nn.Module) -> int | None:
    """Width of a model that carries a Hugging Face configuration; None for any other."""
    model = unwrap(model)
    config = getattr(model, "config", None)
    if not hasattr(config, "get_text_config"):
        return None
    said = getattr(config.get_text_config(), "hidden_size", None)
    table = input_table(model)
    if isinstance(said, int) or table is None:
        return said
    return table.shape[-1]


def wider_huggingface_copy(model: nn.Module) -> nn.Module:
    """The same architecture twice as wide, shapes only.

    Raises
    ------
    ConfigError: where the class cannot be built from its configuration (a wrapper that only carries
        one), where the model has other parameters than its configuration builds (adapters, a head
        of its own), and where no number of the configuration widens the input embedding.
    """
    model = unwrap(model)
    wider = _wider(_Built(type(model), model.config, repr(model.config)))
    ours = {plain_name(name) for name, _ in model.named_parameters(remove_duplicate=False)}
    built = {name for name, _ in wider.named_parameters(remove_duplicate=False)}
    if ours != built:
        raise _no_copy(
            type(model), f"it has {', '.join(sorted(ours ^ built)[:3])} … beside its configuration"
        )
    return wider


def _no_copy(kind, cause):
    return ConfigError(
        f"no wider copy of {kind.__name__} can be made from its configuration.",
        cause,
        "param_groups(model, …, base_model=base), where base is wrapped alike and narrower",
    )


@dataclass(frozen=True)
class _Built:
    """A class and its configuration; those that print alike build alike."""

    kind: type
    config: object = field(compare=False)
    printed: str


@functools.lru_cache(maxsize=4)
def _wider(built):
    return _Search(built).widest()


def _numbers(config, path=()):
    """Path and value of every number, or list of numbers, in a configuration and those within it."""
    aliases = getattr(config, "attribute_map", {})
    for key, value in (config if isinstance(config, dict) else vars(config)).items():
        if hasattr(value, "model_type") or isinstance(value, dict):
            yield from _numbers(value, (*path, key))
        elif isinstance(key, str) and key not in aliases and not _NO_SIZE.search(key) and _sizes(value):
            yield (*path, key), value


def _sizes(value):
    """The sizes that a value holds; none where it is no number, or list or tuple of numbers."""
    values = value if isinstance(value, list | tuple) else [value]
    return values if values and all(type(each) is int and each > 1 for each in values) else []


def _part(config, key):
    return config[key] if isinstance(config, dict) else getattr(config, key)


class _Search:
    """Which numbers of a configuration to double."""

    def __init__(self, built):
        self.built = built
        self.numbers = dict(_numbers(built.config))
        try:
            self.model = self._build(())
        except Exception as error:
            raise _no_copy(built.kind, f"{type(error).__name__}: {error}") from error
        self.shapes = shapes_of(self.model)
        self.axes = {}
        for name, shape in self.shapes.items():
            words = axes_of(place_of(self.model, name), shape)
            is_known = words and (words != EACH or len(shape) == 1)
            self.axes[name] = words.split() if is_known else ["?"] * len(shape)
        output = output_matrix(self.model)
        names = self.model.named_parameters(remove_duplicate=False)
        self.classes = {(name, 0) for name, each in names if each is output}

    def _build(self, doubled):
        config = copy.deepcopy(self.built.config)
        for *path, key in doubled:
            part = functools.reduce(_part, path, config)
            value = self.numbers[*path, key]
            is_list = isinstance(value, list | tuple)
            value = type(value)(2 * each for each in value) if is_list else 2 * value
            part.update({key: value}) if isinstance(part, dict) else setattr(part, key, value)
        with torch.device("meta"):
            return self.built.kind(config)

    def _grown(self, doubled):
        """The axes, as (name, index), that grow with these numbers; None where that is another
        architecture."""
        try:
            shapes = shapes_of(self._build(doubled))
        except Exception:
            # Whatever a model says of sizes that do not fit together.
            return None
        if {name: len(shape) for name, shape in shapes.items()} != {
            n: len(s) for n, s in self.shapes.items()
        }:
            return None
        axes = [(name, index) for name, shape in self.shapes.items() for index in range(len(shape))]
        if any(shapes[name][index] < self.shapes[name][index] for name, index in axes):
            return None
        return {(name, index) for name, index in axes if shapes[name][index] > self.shapes[name][index]}

    def _words(self, grown):
        return {self.axes[name][index] for name, index in grown}

    def _widens(self, grown):
        """Whether nothing grew that is no width: a row, a class, a kernel, an expert."""
        counts = {"rows", "kernel", "experts"}
        return grown is not None and not self._words(grown) & counts and not grown & self.classes

    def widest(self):
        """The copy with all numbers doubled that are found."""
        width, wanted = self._tables()
        doubled, grown = self._start(width, wanted)
        if doubled is None:
            raise _no_copy(self.built.kind, f"no number of it widens the input embedding of width {width}")
        rest = [key for key in self._in_order() if key not in doubled]
        heads = []
        for key in rest:
            if self._divides(key, width) and self._counts_heads(key):
                heads.append(key)
        # Heads alone may change no shape; a size of theirs that makes a part of a matrix grow comes after
        # those that make all of it grow.
        for keys, accepts in ((rest, self._is_inner), (heads, self._widens), (rest, self._is_inner)):
            doubled, grown = self._add(keys, accepts, doubled, grown)
        return self._build(doubled)

    def _tables(self):
        """The width of the input embedding, and the axes, as (name, index), that are to grow; where the
        model does not say what that is, all tables as wide as its configuration says."""
        table = input_table(self.model)
        width = huggingface_width(self.model) if table is None else table.shape[-1]
        if not width:
            raise _no_copy(self.built.kind, "it does not say what its input embedding is")
        wanted = set()
        for name, each in self.model.named_parameters(remove_duplicate=False):
            is_wanted = each is table
            if table is None:
                is_wanted = is_lookup(place_of(self.model, name).layer) and each.shape[-1] == width
            if is_wanted:
                wanted.add((name, each.ndim - 1))
        return width, wanted

    def _add(self, keys, accepts, doubled, grown):
        """The numbers, and what grows with them, with those of the keys that are accepted, as long as
        one is."""
        before = None
        while before != doubled:
            before = doubled
            for key in keys:
                if key in doubled or (accepts == self._is_inner and not self._is_open(key, grown)):
                    continue
                more = self._grown((*doubled, key))
                if more is not None and more >= grown and self._widens(more) and accepts(more - grown):
                    doubled, grown = (*doubled, key), more
        return doubled, grown

    def _is_inner(self, new):
        """Whether an output and an input grew together; or, within blocks and in tables, outputs
        alone (keys and values, a bias for each head)."""
        words = self._words(new)
        if words >= {"in", "out"}:
            return True
        tables = {(name, index) for name, index in new if "rows" in self.axes[name]}
        inside = {(name, index) for name, index in new if _block(name)}
        return bool(words) and words <= {"out", EACH} and new <= tables | inside

    def _in_order(self):
        """Sizes of a head last."""
        return sorted(self.numbers, key=lambda key: bool(_OF_A_HEAD.search(key[-1])))

    def _start(self, width, wanted):
        """The numbers that widen the input embedding, together."""
        equal = tuple(key for key, value in self.numbers.items() if width in _sizes(value))
        sets = [equal]
        if len(equal) > 1:
            # A number of tokens or positions may equal the width.
            useful = tuple(key for key in equal if self._may_be_width(key))
            sets = [useful, *itertools.combinations(useful, len(useful) - 1)]
        # Sizes that have to fit together: heads times head size, an inner size beside the outer one.
        others = [key for key in self._in_order() if key not in equal]
        others.sort(key=lambda key: not self._divides(key, width))
        sets += [(*sets[0], key) for key in others]
        for doubled in sets:
            grown = self._grown(doubled) if doubled else None
            if self._widens(grown) and wanted <= grown:
                return doubled, grown
        return None, None

    def _may_be_width(self, key):
        """Whether a number alone does not build, or widens something."""
        alone = self._grown((key,))
        return alone is None or (bool(alone) and self._widens(alone))

    def _counts_heads(self, key):
        """Whether twice the number alone makes something of the layers half as large: heads, or the
        queries of each key."""
        try:
            twice = self._build((key,))
        except Exception:
            return False
        pairs = zip(self.model.modules(), twice.modules(), strict=False)
        return any(
            type(value) is int and value > 1 and vars(more).get(name) == value / 2
            for own, more in pairs
            for name, value in vars(own).items()
        )

    def _divides(self, key, size):
        return any(size % each == 0 for each in _sizes(self.numbers[key]))

    def _is_open(self, key, grown):
        """Whether a number could be a size of a matrix that has not grown."""
        for name, words in self.axes.items():
            for index, word in enumerate(words):
                if word not in ("in", "out") or (name, index) in grown:
                    continue
                # Inside a block a size may be made from a number otherwise than as its multiple.
                is_inner = word == "in" and _block(name)
                if is_inner or self._divides(key, self.shapes[name][index]):
                    return True
        return False


def _block(name):
    """Whether a layer stands in a numbered block."""
    return re.search(r"\.\d+\..*\.", name)
