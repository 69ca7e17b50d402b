"""What is refused: parameters whose role the shapes leave open, all told at once with the call that
settles them."""

import re
from collections import defaultdict
from fnmatch import fnmatchcase
from typing import NamedTuple

from hpt.errors import RoleError
from hpt.parameterization.copies import Seen
from hpt.parameterization.layers import block_of, input_table

#: Where nothing says whether a parameter grows: more than this share of the model is no oversight.
LARGE_SHARE = 0.25


class Doubt(NamedTuple):
    """A parameter whose role the shapes leave open, the role that they suggest, and why."""

    seen: Seen
    suggested: str | tuple[str, str]
    why: str


def half_grown(free, found):
    """An inner size of a block that does not grow makes one matrix an embedding and the next a
    readout; a low rank is meant so."""
    why = (
        "an inner size, {}, does not grow (an intermediate_size, a number of heads): if that is no intent, "
        "give a base_model that is narrower there too"
    )
    blocks = defaultdict(list)
    for name, seen in free.items():
        role = found[name]
        block = block_of(seen.name)
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
                yield Doubt(seen, role, why.format(inner))


def missed(free, found, model):
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
            yield Doubt(seen, "embedding", "the model looks its tokens up in it, and it did not grow")
        elif found[name].role == "fixed" and seen.trainable:
            fixed[name] = seen
    if sum(seen.size for seen in fixed.values()) > LARGE_SHARE * total:
        for seen in fixed.values():
            yield Doubt(seen, "fixed", "did not grow, as a large part of the model")


def refuse(doubts, names):
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
