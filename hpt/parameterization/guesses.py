"""What the shape, the neighbours and the code of a raw ``nn.Parameter`` suggest about it, where its
layer does not say which axis is its input."""

import re

from hpt.parameterization.layers import EACH, source_of

#: How parameters are called that act entry by entry.
_BY_ENTRY = re.compile(r"log|mix|scale|gain|gamma|beta|decay|norm|alpha|lambda|^D$")
#: How tables of positions, tokens and the like are called.
_TABLE = re.compile(r"pos|emb|token|query|latent|probe|memor|table")


class Unknown(Exception):
    """The role that shapes suggest, and why they do not tell it."""


def guess_axes(seen, sizes):
    """The axes of a raw parameter, from its role where it is said, and the axis that grows.

    Raises
    ------
    Unknown: where that does not tell.
    """
    ndim = len(seen.shape)
    words = {"embedding": ("out", "in"), "readout": ("in", "out")}.get(seen.said)
    if words and ndim > 1:
        wide = seen.grown
        if len(wide) != 1:
            wide = _wide(seen, sizes)
        if wide:
            axes = [words[1]] * ndim
            axes[wide[-1]] = words[0]
            return axes
    is_vector = sum(size > 1 for size in seen.shape) <= 1 and _in_block(seen.name)
    # A state-space model's decays.
    is_exponent = f"exp(self.{seen.place.leaf}" in source_of(seen.place.layer)
    if seen.said is None and (is_vector or is_exponent):
        return [EACH] * len(seen.shape)
    raise Unknown(suggest(seen, sizes), f"which axis is its input is not known for {seen.kind}")


def suggest(seen, sizes):
    """The role, with its axes where they are needed, that is likely of a raw parameter."""
    is_outside = not _in_block(seen.name)
    grown = seen.grown
    if sizes.one_width or is_outside:
        # Rows, positions and classes may differ there too.
        grown = _wide(seen, sizes) or grown
    if not grown:
        return "fixed"
    if _acts_by_entry(seen, grown):
        return "vector"
    axes = _axes_in_code(seen) or _axes_by_bias(seen)
    if len(grown) > 1:
        return "hidden", axes or _axes_by_shape(seen)
    (axis,) = grown
    # Outside of blocks stand tables of positions and tokens.
    is_table = is_outside and axis == len(seen.shape) - 1
    if axes is None and (is_table or _TABLE.search(seen.place.leaf)):
        return "embedding"
    if axes is None and is_outside and len(seen.shape) == 2:
        axes = "in out"
    axes = axes or _axes_by_shape(seen)
    word = axes.split()[axis]
    if word not in ("in", "out"):
        return "fixed"
    role = {"in": "readout", "out": "embedding"}[word]
    return role if "rows" in axes else (role, axes)


def _wide(seen, sizes):
    """Numbers of the axes whose sizes are those of features."""
    pairs = list(zip(seen.shape, seen.other, strict=True))
    may_be = [index for index in range(len(pairs)) if sizes.one_width or index in seen.grown]
    return [index for index in may_be if pairs[index] in sizes.features and pairs[index] != (1, 1)]


def _acts_by_entry(seen, grown):
    """Whether it is likely a gain or the like: by its name, or in a block with next to no other size."""
    rest = [size for index, size in enumerate(seen.shape) if index not in grown and size > 1]
    if len(grown) > 1 or not _in_block(seen.name):
        return len(seen.shape) == 1
    return not rest or bool(_BY_ENTRY.search(seen.place.leaf))


def _axes_in_code(seen):
    """The axes by what the code of its layer does with a matrix: ``F.linear``, ``@``, a row looked up."""
    if len(seen.shape) != 2:
        return None
    code = source_of(seen.place.layer)
    name = rf"self\.{re.escape(seen.place.leaf)}\b"
    cast = r"(\.(float|half|bfloat16)\(\)|\.to\([^()]*\))?"
    if re.search(rf"embedding\([^()]*,\s*{name}|{name}{cast}\[", code):
        return "rows out"
    turned = r"\.(T|mT|t\(\)|transpose\()"
    product = rf"(@\s*|(matmul|mm)\([^()]*,\s*){name}{cast}"
    if re.search(rf"linear\([^()]*,\s*{name}|{product}{turned}", code):
        return "out in"
    return "in out" if re.search(product, code) else None


def _axes_by_bias(seen):
    """The axes of a matrix beside a bias, which has the size of the output."""
    if len(seen.shape) != 2 or seen.shape[0] == seen.shape[1]:
        return None
    biases = {tuple(each.shape) for each in seen.place.layer._parameters.values() if each is not None}
    outputs = [size for size in seen.shape if (size,) in biases]
    if len(outputs) != 1:
        return None
    return "out in" if outputs[0] == seen.shape[0] else "in out"


def _axes_by_shape(seen):
    """The axes as they stand most often, of a matrix, a stack of matrices or a kernel."""
    ndim = len(seen.shape)
    if ndim != 3:
        first, *rest = seen.grown if len(seen.grown) > 1 else (0, 1)
        words = {first: "out", **dict.fromkeys(rest, "in")}
        return " ".join(words.get(index, "kernel") for index in range(ndim))
    return "in out out" if 0 in seen.grown else "heads out in"


def _in_block(name):
    return re.search(r"(^|\.)\d+\.", name)
