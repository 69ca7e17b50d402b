"""Which role every parameter of a model has, read off the shapes of the same model at another
width.

A matrix whose input and output both grow with width is hidden; one whose output alone grows is an
embedding; one whose input alone grows is a readout (a router of experts is one); one of which
nothing grows is fixed; what acts entry by entry, a gain or bias, is a vector (Yang et al. 2022,
section 4). Rows of a table, classes, positions and experts are no width, whatever their number.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import NamedTuple

from torch import nn

from hpt.errors import RoleError, did_you_mean
from hpt.parameterization.layers import (
    EACH,
    Place,
    axes_of,
    input_table,
    is_lookup,
    is_norm,
    output_matrix,
    place_of,
    plain_name,
    shapes_of,
    unwrap,
)
from hpt.parameterization.rules import ROLES, Role

#: Role of the parameters that match a pattern: "hidden", or with the order of the axes,
#: ("hidden", "out in").
RoleMap = Mapping[str, str | tuple[str, str]]
#: Where nothing says whether a parameter grows: more than this share of the model is no oversight.
LARGE_SHARE = 0.25


@dataclass(frozen=True)
class ParameterRole:
    """Role and sizes of one parameter.

    Attributes
    ----------
    name: as in ``model.named_parameters()``.
    role: embedding, hidden, readout, vector or fixed.
    fan_in, fan_out: inputs and outputs of the map that the parameter is.
    growth: its growing size over that of the other copy, the input's where both grow; None where
        nothing grows (a scalar gain).
    growth_ratio: growth of the output over growth of the input; 1 unless both grow.
    dense: whether the input of an embedding is a vector of numbers, not the number of a row.
    tied_to: other names of the same parameter, where it is embedding and readout in one.
    shared_with: other names of the same parameter, where it does the same at several places.
    note: what is unusual about it; "" for most.
    """

    name: str
    role: Role
    fan_in: int
    fan_out: int
    growth: float | None
    growth_ratio: float = 1.0
    dense: bool = False
    tied_to: tuple[str, ...] = ()
    shared_with: tuple[str, ...] = ()
    note: str = ""


class _Seen(NamedTuple):
    """A parameter as its two copies show it, and what its layer and the mapping say of it."""

    name: str
    place: Place
    shape: tuple
    other: tuple
    axes: list | None
    said: str | None
    trainable: bool
    size: int

    @property
    def is_entrywise(self):
        return self.axes == [EACH] * len(self.shape)

    @property
    def parent(self):
        """The module that its layer is part of."""
        return self.name.rpartition(".")[0].rpartition(".")[0]

    @property
    def grown(self):
        """Numbers of the axes whose size differs."""
        sizes = enumerate(zip(self.shape, self.other, strict=True))
        return [index for index, (here, there) in sizes if here != there]

    def pairs(self, word):
        """The sizes, here and in the other copy, of the axes of this name."""
        sizes = zip(self.shape, self.other, strict=True)
        return {pair for axis, pair in zip(self.axes or (), sizes, strict=False) if axis == word}

    def __str__(self):
        return f"parameter {self.name!r} of shape {self.shape}, {self.other} in the other copy"


class _Doubt(NamedTuple):
    """A parameter whose role the shapes leave open, the role that they suggest, and why."""

    seen: _Seen
    suggested: str | tuple[str, str]
    why: str


def find_roles(
    model: nn.Module, other: nn.Module, mapping: RoleMap | None = None
) -> dict[str, ParameterRole]:
    """Roles of all parameters, each once, by comparing shapes with ``other``.

    Parameters
    ----------
    model: any module; layers of torch and Hugging Face are known, others need an entry in
        ``mapping`` where shapes leave a doubt.
    other: the same architecture at another width; only shapes are read, so it may live on "meta".
        At the same width the layers' types and sizes tell the roles.
    mapping: what shapes cannot tell, by pattern of names: ``{"*.k_proj.weight": "hidden"}``, or
        with the axes in words: ``{"mixer.w": ("hidden", "heads out in")}``. An axis that is neither
        is left out of both fans, except "kernel", which counts to fan_in.

    Raises
    ------
    RoleError: for the parameters that one copy lacks; for those whose shapes leave a doubt, all of
        them at once with the roles that shapes suggest; and for a pattern that fits none.
    """
    model, other = unwrap(model), unwrap(other)
    every = _see(model, other, mapping or {})
    sizes = _Sizes([seen for seen, _ in every.values()], model)
    found: dict[str, ParameterRole] = {}
    doubts = []
    for name, (seen, names) in every.items():
        try:
            role = _role(seen, sizes)
        except _Unknown as unknown:
            suggested, why = unknown.args
            role = _role(_as_said(seen, suggested), sizes)
            # What nothing trains needs no answer.
            if seen.trainable:
                doubts.append(_Doubt(seen, suggested, why))
        found[name] = _shared(replace(role, name=name), names, model)
    doubted = {doubt.seen.name for doubt in doubts}
    free = {name: seen for name, (seen, _) in every.items() if seen.said is None and seen.name not in doubted}
    found |= _keys_and_values(free, found, model)
    found |= _biases(free, found)
    doubts += [*_half_grown(free, found), *_missed(free, found, model)]
    if doubts:
        _refuse(doubts, [seen.name for seen, _ in every.values()])
    return found


def same_width(model: nn.Module, other: nn.Module) -> bool:
    """Whether two copies have parameters of the same shapes."""
    return shapes_of(model) == shapes_of(other)


def _see(model, other, mapping):
    """Every parameter once beside its namesake, with its other names."""
    others = shapes_of(other)
    names = defaultdict(list)
    for name, tensor in model.named_parameters(remove_duplicate=False):
        names[tensor].append(name)
    _check_names([[plain_name(name) for name in each] for each in names.values()], others)
    _check_patterns(mapping, [plain_name(name) for each in names.values() for name in each])
    every = {}
    for tensor, (first, *rest) in names.items():
        # A table that is the readout's matrix too is a table, whichever was registered first.
        by_lookup = sorted([first, *rest], key=lambda name: not is_lookup(place_of(model, name).layer))
        known = next(name for name in by_lookup if plain_name(name) in others)
        seen = _look(model, tensor, known, others, mapping, plain_name(first))
        every[first] = seen, by_lookup
    return every


def _check_names(names, others):
    """Refuse copies of which one has parameters that the other lacks; tied ones need one name."""
    missing = [each[0] for each in names if not others.keys() & set(each)]
    every = {name for each in names for name in each}
    extra = sorted(others.keys() - every)
    if missing or extra:
        name, here = (missing[0], "the other copy") if missing else (extra[0], "the model")
        raise RoleError(
            f"{len(missing) + len(extra)} parameters stand in one copy alone: {name!r} is missing in {here}.",
            "the two models differ in more than width (one is wrapped, has adapters, a head of its own)",
            "param_groups(model, …, base_model=the model built and wrapped alike, at a smaller width)",
        )


def _check_patterns(mapping, names):
    for pattern in mapping:
        if not any(fnmatchcase(name, pattern) for name in names):
            what = f"no parameter matches {pattern!r} of the role mapping."
            raise RoleError(what, did_you_mean(pattern, names))


def _look(model, tensor, name, others, mapping, called):
    """A parameter beside its namesake, with the first entry of the mapping that fits."""
    shape = tuple(tensor.shape)
    other = others[plain_name(name)]
    if len(other) != len(shape):
        raise RoleError(
            f"parameter {called!r} of shape {shape} is {other} in the other copy.",
            "the two models differ in more than width",
            "build both from one config, width apart",
        )
    place = place_of(model, name)
    words = axes_of(place, shape)
    axes = words and words.split()
    if words == EACH:
        axes *= len(shape)
    seen = _Seen(
        name=called,
        place=place,
        shape=shape,
        other=other,
        axes=axes,
        said=None,
        trainable=tensor.requires_grad,
        size=tensor.numel(),
    )
    for pattern, said in mapping.items():
        if fnmatchcase(called, pattern):
            return _as_said(seen, said)
    return seen


def _as_said(seen, said):
    """A parameter with the role, and the axes, that an entry of the mapping gives it."""
    role, axes = (said, None) if isinstance(said, str) else said
    if role not in ROLES:
        raise RoleError(f"{role!r}, given for {seen.name!r}, is no role.", did_you_mean(role, ROLES))
    return seen._replace(said=role, axes=axes.split() if axes else seen.axes)


def _shared(role, names, model):
    """A role with the parameter's other names: a table that is a matrix too is tied, all else is
    one layer at several places."""
    own = plain_name(role.name)
    rest = []
    kinds = set()
    for name in names:
        kinds.add(is_lookup(place_of(model, name).layer))
        plain = plain_name(name)
        if plain != own:
            rest.append(plain)
    is_output = model.get_parameter(role.name) is output_matrix(model)
    if kinds == {True} and is_output:
        kinds.add(False)
        rest.append("get_output_embeddings()")
    field = "tied_to" if len(kinds) == 2 else "shared_with"
    return replace(role, **{field: tuple(rest)})


class _Unknown(Exception):
    """The role that shapes suggest, and why they do not tell it."""


class _Sizes:
    """Pairs of sizes (here, in the other copy) in the whole model, and what they are sizes of.

    rows: of a table, with its name.
    taken: what some layer takes in or norms, features.
    given: what some layer or table gives out.
    """

    def __init__(self, seen, model):
        self.rows = {}
        self.taken = set()
        self.given = set()
        self.features = set()
        self.has_readout = False
        self.one_width = not any(each.grown for each in seen)
        self.output = output_matrix(model)
        self.attentions = _attentions(model)
        for each in seen:
            self._add(each)
        self.features |= self.taken
        self._check_rows()

    def _add(self, seen):
        if seen.is_entrywise:
            normed = seen.pairs(EACH) if is_norm(seen.place.layer) else set()
            self.taken |= normed
            self.given |= normed
            return
        ins, outs = seen.pairs("in"), seen.pairs("out")
        self.taken |= ins
        self.given |= outs
        if is_lookup(seen.place.layer):
            self.features |= outs
            self.rows |= dict.fromkeys(seen.pairs("rows"), seen.name)
        ends = all(here == there for here, there in outs)
        self.has_readout |= ends and any(here != there for here, there in ins)

    def _check_rows(self):
        for (here, there), name in self.rows.items():
            if here != there and (here, there) in self.features:
                raise RoleError(
                    f"the rows of {name!r} change from {there} to {here}, as the width does.",
                    "the copies differ in more than width (a vocabulary, a context)",
                    f"param_groups(model, …, base_model=a copy with {here} rows there too)",
                )

    def grows(self, seen, axis, pair):
        """Whether an axis grows with the width.

        Raises
        ------
        _Unknown: where it may as well be a number of classes.
        """
        here, there = pair
        if here == there or axis == "rows":
            return False
        if seen.said or axis not in ("in", "out") or is_lookup(seen.place.layer):
            return True
        if pair in self.rows:
            return False
        is_last = not (_block(seen.name) or seen.name.startswith(self.attentions)) and pair not in self.taken
        if axis == "out" and is_last and not self._is_fused(pair):
            raise _Unknown(
                "readout",
                f"no layer takes in its output, which changes from {there} to {here}: classes? Then give "
                "both copies the same number",
            )
        return True

    def _is_fused(self, pair):
        """Whether it can be several projections in one matrix, in a model whose readout is another."""
        here, there = pair
        parts = {(here / count, there / count) for count in (2, 3, 4)}
        return self.has_readout and bool(parts & self.features)


def _block(name):
    """The repeated block that a layer stands in; "" outside."""
    found = re.match(r"(.*?\.\d+)\..*\.", name)
    return found[1] if found else ""


def _role(seen, sizes):
    """Role, fans, growth, ratio of growth, and whether the input is dense, of one parameter.

    Raises
    ------
    _Unknown: where shapes do not tell.
    """
    if seen.said == "vector" or (seen.said is None and seen.is_entrywise):
        return _vector(seen, sizes)
    stays = not (seen.said or seen.grown or sizes.one_width)
    if seen.said == "fixed" or stays:
        fans = seen.shape or (1,)
        return ParameterRole(seen.name, "fixed", fan_in=fans[-1], fan_out=fans[0], growth=None)
    axes = seen.axes
    if not axes or not {"in", "out", "rows"} & set(axes):
        axes = _guess_axes(seen, sizes)
    if axes == [EACH]:
        return _vector(seen, sizes)
    if len(axes) != len(seen.shape) or not {"in", "rows"} & set(axes) or "out" not in axes:
        raise _Unknown(_suggest(seen, sizes), f"which axis is its input is not known for {_kind(seen)}")
    return _matrix(seen._replace(axes=axes), sizes)


def _kind(seen):
    return type(seen.place.layer).__name__


def _vector(seen, sizes):
    grown = seen.grown
    if seen.said is None and len(grown) > 1:
        raise _Unknown(_suggest(seen, sizes), f"two sizes of it grow, of {_kind(seen)} by entries")
    growth = None
    for index in grown:
        here, there = seen.shape[index], seen.other[index]
        if (here, there) not in sizes.rows:
            growth = here / there
    size = max(seen.shape, default=1)
    return ParameterRole(seen.name, "vector", fan_in=1, fan_out=size, growth=growth)


def _matrix(seen, sizes):
    growth = {}
    fans = {"in": 1, "out": 1}
    words = {"rows": "in", "kernel": "in"}
    for axis, here, there in zip(seen.axes, seen.shape, seen.other, strict=True):
        fan = words.get(axis, axis)
        if fan in fans:
            fans[fan] *= here
        if sizes.grows(seen, axis, (here, there)):
            growth[axis] = growth.get(axis, 1.0) * here / there
    odd = growth.keys() - {"in", "out"}
    if odd:
        raise _Unknown("fixed", f"changes in more than input and output: axis {min(odd)!r} grows too")
    role = seen.said
    if role is None:
        role = _role_of_growth(growth) if growth else _role_of_type(seen, sizes)
    other = {"embedding": "in", "readout": "out"}.get(role)
    growth.pop(other, None)
    ratio = growth["out"] / growth["in"] if len(growth) == 2 else 1.0
    return ParameterRole(
        name=seen.name,
        role=role,
        fan_in=fans["in"],
        fan_out=fans["out"],
        growth=growth.get("in", growth.get("out")),
        growth_ratio=ratio,
        dense=role == "embedding" and _takes_numbers(seen),
    )


def _role_of_growth(growth):
    if len(growth) == 2:
        return "hidden"
    return "readout" if "in" in growth else "embedding"


def _role_of_type(seen, sizes):
    """The role at one width, where only the kind of layer and the flow of sizes tell."""
    if not sizes.one_width:
        return "fixed"
    if is_lookup(seen.place.layer):
        return "embedding"
    is_output = getattr(seen.place.layer, seen.place.leaf, None) is sizes.output
    if is_output or _kind(seen).endswith("Router"):
        return "readout"
    if not seen.pairs("in") & sizes.given:
        return "embedding"
    is_last = not _block(seen.name) and not seen.pairs("out") & sizes.taken
    return "readout" if is_last else "hidden"


def _takes_numbers(seen):
    """Whether a layer multiplies vectors of numbers, and is no table of rows."""
    words = seen.axes
    is_raw = axes_of(seen.place, seen.shape) is None
    return words.index("out") < words.index("in") if is_raw and "in" in words else "rows" not in words


def _guess_axes(seen, sizes):
    """The axes of a raw parameter, from its role where it is said, and the axis that grows.

    Raises
    ------
    _Unknown: where that does not tell.
    """
    ndim = len(seen.shape)
    words = {"embedding": ("out", "in"), "readout": ("in", "out")}.get(seen.said)
    if words and ndim > 1:
        wide = seen.grown
        if len(wide) != 1:
            pairs = zip(seen.shape, seen.other, strict=True)
            wide = [index for index, pair in enumerate(pairs) if pair in sizes.features]
        if wide:
            axes = [words[1]] * ndim
            axes[wide[-1]] = words[0]
            return axes
    is_vector = sum(size > 1 for size in seen.shape) <= 1 and _in_block(seen.name)
    if seen.said is None and is_vector:
        return [EACH]
    raise _Unknown(_suggest(seen, sizes), f"which axis is its input is not known for {_kind(seen)}")


def _has_partner(seen, axis):
    """Whether a low rank that it maps into, or out of, is that of another parameter of its layer."""
    rank = seen.shape[1 - axis]
    for parameter in seen.place.layer._parameters.values():
        if parameter is None or parameter.ndim != 2:
            continue
        if parameter.shape[axis] == rank != parameter.shape[1 - axis]:
            return True
    return False


def _in_block(name):
    return re.search(r"(^|\.)\d+\.", name)


def _suggest(seen, sizes):
    """The role, with its axes where they are needed, that the shape of a raw parameter suggests."""
    ndim = len(seen.shape)
    grown = seen.grown
    is_inside = _in_block(seen.name)
    as_kernel = "out in" + " kernel" * (ndim - 2)
    if not grown:
        return "fixed"
    wide = [index for index in grown if (seen.shape[index], seen.other[index]) in sizes.features]
    if not is_inside and wide == [ndim - 1]:
        return "embedding"
    if len(grown) > 1:
        if ndim != 3:
            return "hidden", as_kernel
        return "hidden", "in out out" if 0 in grown else "heads out in"
    (axis,) = grown
    if ndim == 2 and _has_partner(seen, axis):
        return "embedding" if axis == 0 else "readout", "out in"
    # Outside of blocks stand tables of positions and tokens; inside, what scales and shifts.
    if ndim == 1 or (is_inside and seen.size < seen.shape[axis] ** 2):
        return "vector"
    if is_inside:
        return "hidden", "in out out" if ndim == 3 else as_kernel
    if axis == ndim - 1:
        return "embedding"
    return ("readout", "in out") if ndim == 2 else ("embedding", as_kernel)


def _attentions(model):
    """What the names of all in an attention layer start with."""
    found = []
    for name, part in model.named_modules():
        kind = type(part).__name__.lower()
        if name and "att" in kind:
            found.append(plain_name(f"{name}."))
    return tuple(found)


def _keys_and_values(free, found, model):
    """The projections to keys and values, whose number of heads stays as the width grows, are hidden
    as the queries are."""
    attentions = _attentions(model)
    families = defaultdict(list)
    for name, seen in free.items():
        if seen.is_entrywise:
            continue
        around = [each for each in attentions if seen.name.startswith(each)]
        attention = max(around, key=len, default="")
        families[attention, attention or seen.parent].append(found[name])
    changed = {}
    for (is_attention, _), family in families.items():
        narrow = [role for role in family if role.role == "readout"]
        queries = [role for role in family if role.role == "hidden"]
        sizes = [(role.fan_in, role.fan_out) for role in narrow]
        for role in narrow:
            is_pair = sizes.count((role.fan_in, role.fan_out)) > 1
            alike = [q for q in queries if q.fan_in == role.fan_in and q.fan_out % role.fan_out == 0]
            if alike and (is_attention or is_pair):
                note = f"{role.name} maps into heads whose number does not grow: hidden, as queries are"
                changed[role.name] = replace(role, role="hidden", note=note)
    return changed


def _biases(free, found):
    """The bias of a layer whose output does not grow grows with nothing."""
    stays = {seen.place.layer for name, seen in free.items() if found[name].role in ("readout", "fixed")}
    return {
        name: replace(found[name], growth=None)
        for name, seen in free.items()
        if found[name].role == "vector" and seen.place.layer in stays
    }


def _half_grown(free, found):
    """An inner size of a block that does not grow makes one matrix an embedding and the next a
    readout; a low rank is meant so."""
    why = (
        "an inner size, {}, does not grow (an intermediate_size, a number of heads): if that is no intent, "
        "give a base_model that is narrower there too"
    )
    blocks = defaultdict(list)
    for name, seen in free.items():
        role = found[name]
        block = _block(seen.name)
        if block and role.role == "readout":
            blocks[block, role.fan_out].append((seen, "readout"))
        elif block and role.dense:
            blocks[block, role.fan_in].append((seen, "embedding"))
    for (_, inner), family in blocks.items():
        smallest = min(min(max(seen.shape), max(seen.other)) for seen, _ in family)
        is_low_rank = 2 * inner < smallest
        takes_it_in = any(role == "embedding" for _, role in family)
        if takes_it_in and not is_low_rank:
            for seen, role in family:
                yield _Doubt(seen, role, why.format(inner))


def _missed(free, found, model):
    """The input embedding, and a large part of the model, that did not grow."""
    table = input_table(model)
    total = 0
    fixed = {}
    for name, parameter in model.named_parameters():
        total += parameter.numel()
        if name not in free:
            continue
        seen = free[name]
        if parameter is table and found[name].role != "embedding":
            yield _Doubt(seen, "embedding", "the model looks its tokens up in it, and it did not grow")
        elif found[name].role == "fixed" and seen.trainable:
            fixed[name] = seen
    if sum(seen.size for seen in fixed.values()) > LARGE_SHARE * total:
        for seen in fixed.values():
            yield _Doubt(seen, "fixed", "did not grow, as a large part of the model")


def _refuse(doubts, names):
    """Tell all doubts at once, as patterns over layers, with a call that settles them."""
    by_pattern = defaultdict(list)
    for doubt in doubts:
        by_pattern[re.sub(r"(?<![^.])\d+(?=\.)", "*", doubt.seen.name)].append(doubt)
    lines = []
    roles = {}
    for pattern, several in by_pattern.items():
        first = several[0]
        own = {doubt.seen.name: doubt.suggested for doubt in several}
        matched = {name for name in names if fnmatchcase(name, pattern)}
        if matched == own.keys() and len(set(own.values())) == 1:
            own = {pattern: first.suggested}
        roles |= own
        more = f" ({len(several)} such)" if len(several) > 1 else ""
        lines.append(f"{first.seen}{more}: {first.why}")
    said = ", ".join(f'"{name}": {_quoted(role)}' for name, role in roles.items())
    raise RoleError(
        "shapes do not tell every role:\n    " + "\n    ".join(lines),
        "layers of your own, or copies that differ in more than width",
        f"what shapes suggest, if it is right: param_groups(…, roles={{{said}}})",
    )


def _quoted(role):
    return f'"{role}"' if isinstance(role, str) else "({})".format(", ".join(f'"{word}"' for word in role))
