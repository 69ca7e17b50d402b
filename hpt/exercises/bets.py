"""A reader's predictions: bets, kept in predictions.json beside the store, and how well they were made."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd

from hpt.cache_folder import cache_root
from hpt.files import StrPath, write_whole

#: What share of a reader's intervals should hold what comes out.
LEVEL = 0.8
#: In place of a result that is none.
UNTOLD = "not run here, or not determined"
#: What every bet that is kept has.
KEYS = {"bet", "choices", "naive"}


class Bets:
    """The bets of a reader. In a live kernel a result is shown once its bet is made.

    Parameters
    ----------
    store: folder of run records, or its URL; the bets lie beside it, or in the cache folder.
    """

    def __init__(self, store: StrPath):
        folder = Path(str(store)).absolute().parent
        if "://" in str(store):
            folder = cache_root()
        self.path = folder / "predictions.json"
        self._unwritten = {}

    def place(
        self, name: str, bet: Any, *, choices: Sequence[str] = (), naive: Sequence[float] = (0, 1)
    ) -> None:
        """Keep a bet; None is none yet. A bet whose result was shown stays as it is.

        Parameters
        ----------
        name: notebook and question, such as "03.share".
        bet: one of ``choices``, or an interval (low, high) that holds the result with 80 %.
        naive: the interval of one who knows nothing, to compare with.
        """
        kept = self._read().get(name)
        wanted = "(low, high), which hold it with 80 %"
        if choices:
            wanted = f"one of {', '.join(choices)}"
        read = _read_bet(bet, choices)
        if kept and (bet is None or "came_out" in kept):
            print(f"your bet: {_said(kept['bet'])}")
        elif bet is None:
            print(f"… your bet, in place of None: {wanted}")
        elif read is None:
            print(f"✗ {bet!r} is no bet here; {wanted}")
        else:
            self._keep(name, {"bet": read, "choices": list(choices), "naive": list(naive)})
            print(f"your bet: {_said(read)}")

    def reveal(self, name: str, came_out: Any, because: str = "", show: Any = None) -> Any:
        """Hold the bet against what came out, keep that, and hand back what there is to show.

        ``came_out`` is a number or a choice; None or nan where the runs do not tell. In a live kernel
        nothing is told before a bet is made, and None comes back.
        """
        kept = self._read().get(name)
        if came_out is None:
            came_out = math.nan
        told = _said(came_out)
        if kept is None:
            if not os.environ.get("HPT_HEADLESS"):
                return self.after(name, None)
            print(f"… no bet was made. What came out: {told}. {because}")
        elif told == UNTOLD:
            print(f"… the runs do not tell, so your bet stays open. {because}")
        else:
            done = kept | _judged(kept, came_out)
            self._keep(name, done)
            sign = "✓" if done["right"] else "✗"
            print(f"{sign} you bet {_said(kept['bet'])}; what came out: {told}. {because}")
        return show

    def after(self, name: str, show: Any) -> Any:
        """What else belongs to a result; in a live kernel None before the bet is made."""
        if name in self._read() or os.environ.get("HPT_HEADLESS"):
            return show
        print(f"… bet first, on {name}, in the cell above; then run this one again.")
        return None

    def calibration(self) -> pd.DataFrame:
        """How well the bets with a result were made: a row each for intervals and choices, none without.

        Columns: bets made, the share that was right, the share of one who knows nothing (the naive
        interval, or guessing evenly), and for intervals their score over the naive one's, the lower the
        better: width plus 2/0.2 times the distance missed by (Gneiting & Raftery 2007, eq. 43).
        """
        done = pd.DataFrame([kept for kept in self._read().values() if "came_out" in kept])
        if done.empty:
            return done
        chosen = done["choices"].astype(bool)
        done["kind of bet"] = np.where(chosen, "named choice", f"{LEVEL:.0%} interval")
        kinds = done.groupby("kind of bet")
        table = kinds[["right", "knowing_nothing"]].mean()
        table.insert(0, "made", kinds.size())
        if not chosen.all():
            table["score_over_naive"] = kinds["score_over_naive"].mean()
        return table

    def keep_regret(self, game: str, regret: Mapping[str, float]) -> None:
        """Keep what each player of a game lost, nats, yours as "you"; a later game replaces it."""
        own = float(regret["you"])
        self._keep(game, {"bet": own, "choices": [], "naive": [], "regret": dict(regret)})

    def regrets(self) -> pd.DataFrame:
        """What was kept of games: a row a game, a column a player, nats; none before."""
        kept = self._read().items()
        table = pd.DataFrame({name: bet["regret"] for name, bet in kept if "regret" in bet})
        return table.T.rename_axis("game")

    def _read(self):
        """All bets by name; a file that is none is set aside."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except (OSError, ValueError):
            return dict(self._unwritten)
        try:
            found = json.loads(text)
            whole = {name: kept for name, kept in found.items() if kept.keys() >= KEYS}
        except (ValueError, AttributeError):
            aside = self.path.replace(self.path.with_suffix(".damaged"))
            print(f"{self.path} cannot be read: it is {aside} now, and your bets start anew.")
            return {}
        return whole | self._unwritten

    def _keep(self, name, kept):
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Notebooks run side by side.
            with filelock.FileLock(f"{self.path}.lock"):
                bets = self._read()
                bets[name] = kept
                write_whole(self.path, json.dumps(bets, indent=1).encode())
        except (OSError, ValueError) as error:
            print(f"{self.path} cannot be written ({error}): this bet is kept in memory alone.")
            self._unwritten[name] = kept


def _read_bet(bet, choices):
    """The choice that is meant, whatever its case, or the two ends in order; None where it is no bet."""
    if choices:
        known = {choice.casefold(): choice for choice in choices}
        return known.get(str(bet).strip().casefold())
    try:
        low, high = sorted(float(end) for end in bet)
    # Whatever a reader's value raises: it is no interval.
    except Exception:
        return None
    return [low, high] if math.isfinite(high - low) and low < high else None


def _judged(kept, came_out):
    """What a bet was worth."""
    if kept["choices"]:
        right = kept["bet"] == came_out
        return {"came_out": came_out, "right": right, "knowing_nothing": 1 / len(kept["choices"])}
    value = float(came_out)
    missed, score = _missed(kept["bet"], value)
    missed_naive, score_naive = _missed(kept["naive"], value)
    judged = {"came_out": value, "right": missed == 0, "knowing_nothing": float(missed_naive == 0)}
    return judged | {"score_over_naive": score / score_naive}


def _missed(interval, value):
    """By how much an interval misses a value, and its score."""
    low, high = interval
    missed = max(low - value, value - high, 0)
    return missed, high - low + 2 / (1 - LEVEL) * missed


def _said(bet):
    if isinstance(bet, list):
        return f"{bet[0]:.4g} to {bet[1]:.4g}"
    if bet != bet:
        return UNTOLD
    return bet if isinstance(bet, str) else f"{bet:.3g}"
