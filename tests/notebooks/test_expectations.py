"""What was expected, beside what came out: on sweeps whose truth is known."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.transfer import transfer_report
from hpt.notebooks import expectations as module
from hpt.notebooks.claims import Answer, Verdict
from hpt.notebooks.expectations import Finding, claims_of, outcomes, reference_claims, write_reference_claims
from hpt.notebooks.findings import Found
from hpt.parameterization.sixteen import PARAMETERIZATIONS
from hpt.study.references import FOLDER, Reference, reference_definition, reference_names


def of(name):
    """A reference study without runs: what was expected of it."""
    return Reference(name, "quick", {"expected": reference_definition(name)["expected"]}, (), ())


def sweep_of(effect, noise=0.003):
    """All sixteen, whose L∞ is a sum over the switches that are on."""
    laws = {
        str(p): Law(L_inf=2.8 + sum(x for switch, x in effect.items() if getattr(p, switch)))
        for p in PARAMETERIZATIONS
    }
    return synthetic_sweep(laws, widths=(16, 32, 64, 128), noise=noise, seeds=2, seed=4)


@pytest.fixture(scope="module")
def told():
    effect = {"embd": -0.3, "attn": -0.1, "ln": 0.1, "last": 0.0}
    report = transfer_report(sweep_of(effect), reference="SP", bootstraps=60)
    return dict(zip(of("sixteen").manifest["expected"], outcomes(of("sixteen"), report), strict=True))


def test_what_came_out_is_the_truth(told):
    """Embd has −0.3 of −0.3 nats in all; μP without it gains 0 of 0.3."""
    assert told["embd_share"].verdict == Verdict.HOLDS and "100%" in told["embd_share"].came_out
    assert told["last_loss"].verdict == Verdict.HOLDS
    assert told["ln_loss"].verdict == Verdict.FAILS and "+0.1" in told["ln_loss"].came_out
    assert told["without_embd"].verdict == Verdict.HOLDS
    # Noise alone makes E here, and Embd does nothing to it: never "by 2 to 13".
    assert told["embd_E"].verdict != Verdict.HOLDS


def test_each_verdict_is_read_from_the_whole_interval():
    entry = {"question": "?", "expected": "so", "interval": [0, 1], "claim": "c", "claimed": [0, 1]}
    entry |= {"source": "s", "paper": "p"}
    answers = {}
    for low, high, reason in ((0.2, 0.8, ""), (2, 3, ""), (0.5, 2, ""), (0.2, 0.8, "too few")):
        for says in ("transfers", "fails"):
            found = Finding(entry | {"says": says}, Found("f", low, high, reason))
            (claim,) = claims_of([found], "runs")
            answers[low, high, reason, says] = claim.answer.verdict
            assert bool(claim.answer.reason) == (claim.answer.verdict == Verdict.UNDETERMINED)
    assert list(answers.values()) == [
        *(Verdict.HOLDS, Verdict.FAILS),
        *(Verdict.FAILS, Verdict.HOLDS),
        *[Verdict.UNDETERMINED] * 4,
    ]
    (missing,) = claims_of([Finding(entry, None)], "runs")
    assert missing.answer.verdict == Verdict.NOT_RUN and missing.answer.reason


def test_claims_are_read_from_what_is_kept_until_their_study_changes(tmp_path, monkeypatch):
    """Without a packed study each of its claims is not run, and says how to run it."""
    absent = reference_claims(tmp_path)
    assert {claim.answer.verdict for claim in absent} == {Verdict.NOT_RUN}
    assert all("make reference NAMES=" in claim.runs for claim in absent)
    assert {claim.source for claim in absent} == {"Kalra & Barkeshli", "Lingle"}
    (tmp_path / "sixteen.parquet").write_bytes(b"as it was")
    told = dataclasses.replace(absent[0], answer=Answer("0.1", Verdict.FAILS), runs="sixteen")
    write_reference_claims({"sixteen": [told]}, tmp_path)
    assert reference_claims(tmp_path)[0] == told
    (tmp_path / "sixteen.parquet").write_bytes(b"and changed")
    monkeypatch.setattr(module, "_computed", lambda name, *_: [name])
    assert reference_claims(tmp_path)[0] == "sixteen"


def test_committed_claims_are_of_the_committed_studies():
    """Else each report would compute them anew: `hpt replication` writes them."""
    kept = json.loads((FOLDER / "claims.json").read_text(encoding="utf-8"))
    made = [name for name in reference_names() if (FOLDER / f"{name}.parquet").exists()]
    assert list(kept) == made
    for name, of_study in kept.items():
        packed = (FOLDER / f"{name}.parquet").read_bytes()
        assert of_study["sha256"] == hashlib.sha256(packed).hexdigest(), f"{name}: hpt replication"


def test_every_expectation_has_a_range():
    for name in reference_names():
        for entry in reference_definition(name)["expected"].values():
            for key in ("interval", "claimed"):
                low, high = map(float, entry.get(key, (0, 1)))
                assert low < high and not np.isnan([low, high]).any()
            assert entry["question"].endswith("?") and entry["expected"]
