"""Two copies of a model side by side: every parameter with its shape in each, and what its layer and
the user say of it."""

from collections import defaultdict
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from torch import nn

from hpt.errors import RoleError, did_you_mean
from hpt.parameterization.layers import EACH, Place, axes_of, is_lookup, place_of, plain_name, shapes_of
from hpt.parameterization.rules import ROLES

#: Role of the parameters that match a pattern: "hidden", or with the order of the axes,
#: ("hidden", "out in").
RoleMap = Mapping[str, str | tuple[str, str]]


class Seen(NamedTuple):
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
    def kind(self):
        """The name of its layer's class."""
        return type(self.place.layer).__name__

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


def same_width(model: nn.Module, other: nn.Module) -> bool:
    """Whether two copies have parameters of the same shapes."""
    return shapes_of(model) == shapes_of(other)


def see(model, other, mapping):
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
        by_lookup = sorted([first, *rest], key=lambda name: _rank(place_of(model, name), tensor.shape))
        known = next(name for name in by_lookup if plain_name(name) in others)
        seen = _look(model, tensor, known, others, mapping, plain_name(first))
        every[first] = seen, by_lookup
    return every


def _rank(place, shape):
    """Tables before what may be one, and that before matrices."""
    if is_lookup(place.layer):
        return 0
    return 1 if axes_of(place, shape) is None else 2


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
            "param_groups(model, …, base_model=base), where base is wrapped alike and narrower",
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
    seen = Seen(
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
            return as_said(seen, said)
    return seen


def as_said(seen, said):
    """A parameter with the role, and the axes, that an entry of the mapping gives it."""
    role, axes = (said, None) if isinstance(said, str) else said
    if role not in ROLES:
        raise RoleError(f"{role!r}, given for {seen.name!r}, is no role.", did_you_mean(role, ROLES))
    return seen._replace(said=role, axes=axes.split() if axes else seen.axes)
