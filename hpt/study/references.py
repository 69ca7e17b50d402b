"""Reference studies: finished ones of ours, packed in the repository and read by name on any machine.

Each is ``NAME.parquet``, one row a run with its whole record, beside ``NAME.json``, its manifest. What
each consists of stands in references.toml: parts, laid over a profile, the most telling first.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from hpt.config import from_dict, to_dict
from hpt.data.source import load
from hpt.errors import ConfigError, StoreError, did_you_mean
from hpt.files import StrPath, read_toml, write_whole
from hpt.runs.environment import environment_facts
from hpt.runs.result import RunResult, decode, encode
from hpt.runs.store import Store
from hpt.study.profiles import load_profile
from hpt.study.study import Study

#: Where the repository keeps them.
FOLDER = Path(__file__).parents[2] / "runs" / "reference"
#: What the column ``origin`` says of our runs.
ORIGIN = "reference"


class Part(NamedTuple):
    """A part of a reference study: the arm that its runs belong to, and the runs."""

    arm: str
    study: Study


@dataclass(frozen=True)
class Reference:
    """A finished study of ours.

    Attributes
    ----------
    name, profile: which study, at which profile's sizes.
    manifest: the question, the notebook that asks it, the command that makes it, the studies that it
        consists of, the text of the first and the fingerprints of all, runs planned and made, training
        seconds, and under "made" each machine and day that trained a part of it.
    results: every run, loss curves included, whatever text this machine has.
    arms: of each result, the arm of the study that it belongs to; "" where there is one arm.
    """

    name: str
    profile: str
    manifest: dict[str, Any]
    results: tuple[RunResult, ...] = field(repr=False)
    arms: tuple[str, ...] = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """One row a run, as :meth:`hpt.RunResult.row` has it, with the columns ``arm`` and ``origin``,
        which is "reference": so that nobody takes our runs for theirs."""
        labels = {"origin": ORIGIN}
        rows = zip(self.arms, self.results, strict=True)
        return pd.DataFrame([{"arm": arm, **result.row(), **labels} for arm, result in rows])

    def arm(self, name: str) -> Reference:
        """The part of one arm.  Raises ConfigError for an unknown one."""
        known = list(dict.fromkeys(self.arms))
        if name not in known:
            raise ConfigError(
                f"{self.name!r} has no arm {name!r}.", did_you_mean(name, known), f"one of {known}"
            )
        chosen = tuple(r for arm, r in zip(self.arms, self.results, strict=True) if arm == name)
        return Reference(self.name, self.profile, self.manifest, chosen, (name,) * len(chosen))

    @property
    def complete(self) -> bool:
        """Whether all its runs are made."""
        return self.manifest["runs"] == self.manifest["planned"]

    def __str__(self) -> str:
        made = self.manifest["made"]
        machines = ", ".join(machines_of(self.manifest))
        return (
            f"reference study {self.name!r} at profile {self.profile!r}: {self.manifest['runs']} of "
            f"{self.manifest['planned']} runs, made by `{self.manifest['command']}` on {machines}, "
            f"{made[0]['date']} to {made[-1]['date']}"
        )


def machines_of(manifest: dict[str, Any]) -> list[str]:
    """The cards that trained a reference study, or the processors, each once."""
    found = {}
    for made in manifest["made"]:
        cards = [name for name in made.get("devices", ()) if not name.startswith("cpu")]
        found |= dict.fromkeys(cards or [made["processor"]])
    return list(found)


def reference(name: str, profile: str = "quick", *, folder: StrPath = FOLDER) -> Reference:
    """A reference study, read from the repository: nothing is trained.

    Parameters
    ----------
    name: such as "sixteen"; see :func:`reference_names`.
    profile: at whose sizes.
    folder: that holds the packed studies.

    Raises
    ------
    ConfigError: for an unknown name.  StoreError: for a study that is not there, or is damaged.
    """
    reference_definition(name)
    file = reference_file(name, profile, folder)
    try:
        manifest = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        packed = pd.read_parquet(file, columns=["arm", "run_id", "record"])
        records = zip(packed["record"], packed["run_id"], strict=True)
        results = tuple(decode(record.encode(), run_id, file) for record, run_id in records)
    except FileNotFoundError:
        raise StoreError(
            f"the reference study {name!r} at profile {profile!r} is not in {str(folder)!r}.",
            "nobody has made it yet, or hpt was installed without its repository",
            f"make reference NAMES={name}, in a checkout of the repository",
        ) from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise StoreError(
            f"{str(file)!r} cannot be read: {error}.", "a damaged file", "git checkout runs/reference"
        ) from error
    return Reference(name, profile, manifest, results, tuple(packed["arm"]))


def reference_names() -> list[str]:
    """The names of all reference studies, made or not, in the order of their value."""
    return list(_definitions())


def reference_parts(name: str, profile: str = "quick") -> list[Part]:
    """What a reference study consists of, the most telling part first."""
    base = to_dict(load_profile(profile))
    # The whole grid, whatever the profile searches.
    base |= {"search": "grid", "best_seeds": 2, "best_neighbours": {}}
    rules = {rule: {"name": rule, **laws} for rule, laws in _file_of_definitions()["rules"].items()}
    definition = reference_definition(name)
    parts = []
    for part in definition["parts"]:
        changes = _laid_over({"name": name, **definition.get("every_part", {})}, part)
        changes["parameterizations"] = [rules.get(p, p) for p in changes["parameterizations"]]
        arm = changes.pop("arm", "")
        parts.append(Part(arm, from_dict(Study, _laid_over(base, changes))))
    return parts


def make_reference(
    name: str,
    profile: str = "quick",
    *,
    minutes: float | None = None,
    folder: StrPath = FOLDER,
    **options: Any,
) -> Reference | None:
    """Train what is missing of a reference study, pack it, and write its manifest.

    Interrupted, it packs what there is; the same call goes on.

    Parameters
    ----------
    name, profile: as in :func:`reference`.
    minutes: after which no further run starts.
    folder: that holds the packed studies and, under ``records``, the runs that are not packed yet.
    options: of :meth:`hpt.Study.run`.

    Returns
    -------
    The study as far as it is made; None where not one run is.

    Raises
    ------
    StoreError: where the packed study is of another text than this machine has: its runs would be
        mixed with others.
    """
    parts = reference_parts(name, profile)
    texts = [load(data) for data in dict.fromkeys(part.study.base.data for part in parts)]
    store = Store(folder)
    before = _made_before(name, profile, folder, {text.fingerprint for text in texts})
    ends = time.monotonic() + 60 * minutes if minutes else None
    try:
        for part in parts:
            left = (ends - time.monotonic()) / 60 if ends else None
            if left is None or left > 0:
                part.study.run(store, minutes=left, **options)
    finally:
        made = _pack(name, profile, parts, store, texts[0], before)
    return made


def _made_before(name, profile, folder, fingerprints):
    """The packed study, None where there is none."""
    if not reference_file(name, profile, folder).exists():
        return None
    before = reference(name, profile, folder=folder)
    if not fingerprints.issuperset(before.manifest["fingerprints"]):
        raise StoreError(
            f"the reference study {name!r} in {str(folder)!r} was made on a text other than this machine's.",
            "other versions of the packages whose sources are the text",
            "pip install -r requirements.lock; or make_reference(…, folder=another one)",
        )
    return before


def _pack(name, profile, parts, store, text, before):
    """Write what is made of a study, and its manifest."""
    # A run that another study has as well, from another machine, stays as this study had it.
    kept = {result.config: result for result in before.results} if before else {}
    made: dict[tuple, RunResult] = {}
    planned: set[tuple] = set()
    for arm, study in parts:
        found = [kept.get(result.config, result) for result in study.results(store)]
        made |= {(arm, result.config): result for result in found}
        planned |= {(arm, run) for run in study.plan({result.config: result.val_loss for result in found})}
    if not made:
        return None
    file = reference_file(name, profile, store.path)
    rows = [
        {"arm": arm, **result.row(), "record": encode(result).decode()} for (arm, _), result in made.items()
    ]
    new = [result for result in made.values() if result.config not in kept]
    history = before.manifest["made"] if before else []
    if new:
        devices = sorted({result.device for result in new})
        history = [*history, environment_facts() | {"devices": devices} | _cost(new)]
    manifest = {
        "name": name,
        **{key: reference_definition(name)[key] for key in ("question", "notebook", "expected")},
        "profile": profile,
        "command": f"make reference NAMES={name}" + (f" PROFILE={profile}" if profile != "quick" else ""),
        "text": text.facts,
        "fingerprints": sorted({result.data_fingerprint for result in made.values()}),
        "planned": len(planned | made.keys()),
        **_cost(made.values()),
        "made": history,
        "parts": [{"arm": arm, **to_dict(study)} for arm, study in parts],
    }
    write_whole(file, pd.DataFrame(rows).to_parquet(compression="zstd", index=False))
    write_whole(
        file.with_suffix(".json"),
        json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False).encode(),
    )
    return reference(name, profile, folder=store.path)


def _cost(results):
    results = list(results)
    return {
        "runs": len(results),
        "diverged": sum(result.diverged for result in results),
        "seconds": round(sum(result.seconds for result in results)),
    }


def _definitions():
    """The studies by name."""
    return {name: value for name, value in _file_of_definitions().items() if name != "rules"}


def _file_of_definitions():
    return read_toml("hpt.study", "references.toml")


def reference_definition(name: str) -> dict[str, Any]:
    """Question, notebook, expectations and parts of a reference study, as references.toml has them.

    Raises
    ------
    ConfigError: for an unknown name.
    """
    known = _definitions()
    if name not in known:
        raise ConfigError(
            f"no reference study is named {name!r}.", did_you_mean(name, known), f"one of {', '.join(known)}"
        )
    return known[name]


def reference_file(name: str, profile: str, folder: StrPath) -> Path:
    """The packed study of that name; its manifest has the suffix .json."""
    return Path(folder) / f"{name if profile == 'quick' else f'{name}-{profile}'}.parquet"


def _laid_over(base, changes):
    """The values of ``base`` with those of ``changes`` in their place, section by section."""
    merged = dict(base)
    for key, value in changes.items():
        sections = isinstance(value, dict) and isinstance(base.get(key), dict) and key != "log2_lrs"
        merged[key] = _laid_over(base[key], value) if sections else value
    if changes.get("tokens_per_parameter"):
        merged["steps"] = None  # TOML has no word for it, and there is one budget
    return merged
