"""What the numbers say, in words: every sentence is made from the rows, and says the opposite if they do."""

from __future__ import annotations

import pandas as pd

from causalfm.estimators.scoring.result import NONE

READERS = {"site_linear": "a linear probe", "site_knn": "neighbours", "site_forest": "a forest"}
MARGIN = 0.02  # accuracy that a recommended corrector may lose at known sites: the scoreboard's own default
NEAR = 0.05  # of chance: what would pass for an all-clear
ALIKE = 0.005  # in all numbers: two names for one correction here
UNSEEN, KNOWN, WORST = "biology_new_site", "biology", "worst_new_site"


def readings(rows: pd.DataFrame) -> list[str]:
    """Return the sentences, one paragraph each, without those whose measures are not in the rows."""
    return [text for part in PARTS if (text := part(rows))]


def of(rows: pd.DataFrame, name: str, *, none: bool = False) -> pd.DataFrame:
    """Return the scores of a measure that have a value, by table and corrector; those without correction on request."""
    found = rows[(rows["name"] == name) & ((rows["corrector"] == NONE) == none) & rows["value"].notna()]
    return found.set_index(["table", "corrector"])


def told(scores: pd.DataFrame) -> tuple[int, int, int]:
    """Count changes whose interval lies above 0, below 0, and those that have an interval."""
    return (
        int((scores["change_low"] > 0).sum()),
        int((scores["change_high"] < 0).sum()),
        int(scores["change_low"].notna().sum()),
    )


def span(values: pd.Series, sign: str = "", digits: int = 2) -> str:
    """Return the least and the greatest value."""
    low, high = (f"{value:{sign}.{digits}f}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def site_left(rows: pd.DataFrame) -> str:
    """Say how much of the hospital a linear probe reads from new patients."""
    after, before = of(rows, "site_linear"), of(rows, "site_linear", none=True)
    above, m = int((after["low"] > after["chance"]).sum()), int(after["low"].notna().sum())
    title = "No corrector removes the hospital." if above == m else "The hospital is removed in part."
    return (
        f"**{title}** From new patients a linear probe tells it with an accuracy of {span(before['value'])} without "
        f"correction and {span(after['value'])} after one (chance {span(after['chance'])}); the interval lies above "
        f"chance in {above} of {m} cases (correctors times sets)."
    )


def all_clear(rows: pd.DataFrame) -> str:
    """Say what a reader that is trained on rows of the fit finds in the same new patients."""
    honest, fooled = of(rows, "site_linear"), of(rows, "from_fit_linear")
    if fooled.empty:
        return ""
    less, near = honest["value"] - fooled["value"], fooled["value"] - fooled["chance"] <= NEAR
    most = less.idxmax()
    others = [name for name in ("knn", "forest") if f"from_fit_{name}" in set(rows["name"])]
    more = "; ".join(f"{READERS[f'site_{name}']} {span(of(rows, f'from_fit_{name}')['value'])}" for name in others)
    title = (
        "The false all-clear."
        if 2 * (less > 0).sum() > len(less)
        else "Where the reader is trained matters little here."
    )
    return (
        f"**{title}** A linear probe trained on the rows that the corrector was fitted on, where it has made the means "
        f"of hospitals equal, reads the hospital of the same new patients with {span(fooled['value'])}: less than the "
        f"honest probe, whose training rows are new to the corrector too, in {int((less > 0).sum())} of {len(less)} "
        f"cases, most for {most[1]} in {most[0]} ({fooled['value'][most]:.2f} in place of {honest['value'][most]:.2f}) "
        f"and within {NEAR:g} of chance in {int(near.sum())}.{f' Trained there too: {more}.' if more else ''}"
    )


def other_readers(rows: pd.DataFrame) -> str:
    """Whether neighbours or a forest find more than the linear probe."""
    linear = of(rows, "site_linear")["value"]
    others = {name: of(rows, name)["value"] for name in READERS if name != "site_linear" and name in set(rows["name"])}
    if not others:
        return ""
    table = pd.DataFrame(others).reindex(linear.index)
    gap = table.sub(linear, axis=0)
    more = int((gap.max(axis=1) > 0).sum())
    where, reader = gap.stack().idxmax()[:2], gap.stack().idxmax()[2]
    title = "A linear probe is not enough." if 2 * more > len(gap) else "A linear probe finds most of it."
    return (
        f"**{title}** After correction {' or '.join(READERS[name] for name in others)} tell the hospital better than "
        f"the linear probe in {more} of {len(gap)} cases. The widest gap: {where[1]} in {where[0]}: "
        f"{linear[where]:.2f} by the linear probe, {table.loc[where, reader]:.2f} by {READERS[reader]}."
    )


def index_and_gain(rows: pd.DataFrame) -> str:
    """Whether the robustness index and the accuracy at unseen hospitals rise together."""
    index, margin, gain = (of(rows, name) for name in ("robustness_index", "croma", UNSEEN))
    (up, _, m), (margin_up, _, margin_m), (better, worse, n) = told(index), told(margin), told(gain)
    title = "Index and accuracy rise together."
    if better < up:
        title = "A better index is not a better classifier." if 2 * better < up else "The index rises more often."
    best = gain.loc[gain["change_low"].notna(), "change"].idxmax()
    return (
        f"**{title}** The robustness index rises (interval above 0) in {up} of {m} cases, CRoMa in {margin_up} of "
        f"{margin_m}. The accuracy for the cancer type at hospitals that neither corrector nor probe has seen rises in "
        f"{better} of {n} and falls in {worse}. The most favourable change is {gain['change'][best]:+.3f} "
        f"({best[1]} in {best[0]}; {gain['change_low'][best]:+.3f} to {gain['change_high'][best]:+.3f}), the least "
        f"favourable {gain['change'].min():+.3f}."
    )


def other_probe(rows: pd.DataFrame) -> str:
    """Say whether another classifier of the cancer type gives the same answer."""
    names = UNSEEN, "unseen_by_logistic"
    before, after = ([of(rows, name, none=none)["value"] for name in names] for none in (True, False))
    if after[1].empty:
        return ""
    gains = [one.sub(raw.droplevel("corrector"), level="table") for one, raw in zip(after, before, strict=True)]
    same = int(((gains[0] > 0) == (gains[1] > 0)).sum())
    other = before[1].droplevel("corrector")
    each = "; ".join(f"{value:.3f} and {other[table]:.3f} ({table})" for (table, _), value in before[0].items())
    title = "The probe decides as well." if same < len(gains[0]) else "Another probe says the same."
    return (
        f"**{title}** Without correction a discriminant (used everywhere here) and logistic regression read the cancer "
        f"type at unseen hospitals with {each}. Gains are positive for the one in {int((gains[0] > 0).sum())} of "
        f"{len(gains[0])} cases and for the other in {int((gains[1] > 0).sum())} ({span(gains[0], '+')} and "
        f"{span(gains[1], '+')}); the two agree on the sign in {same}. Logistic regression has no intervals here."
    )


def twins(rows: pd.DataFrame) -> str:
    """Name correctors whose numbers are the same throughout."""
    wide = rows[rows["name"] != "seconds"].pivot(index=["table", "name"], columns="corrector", values="value").dropna()
    names = [name for name in wide if name != NONE]
    same = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if (wide[a] - wide[b]).abs().max() < ALIKE]
    pairs = "; ".join(f"{b} and {a}" for a, b in same)
    return f"**The same numbers throughout**, to {ALIKE:g}: {pairs}." if same else ""


def worst_site(rows: pd.DataFrame) -> str:
    """Say what becomes of the worst of the unseen hospitals."""
    before, after = of(rows, WORST, none=True)["value"], of(rows, WORST)
    better, worse, m = told(after)
    each = "; ".join(f"{table}: {value:.2f}" for (table, _), value in before.items())
    count = f" Its change is told from 0 in {better + worse} of {m} cases: {better} up, {worse} down." if m else ""
    return (
        f"**The worst hospital.** Without correction the accuracy there is, by set, {each}; after one "
        f"{'; '.join(f'{table}: {span(part)}' for table, part in after['value'].groupby('table', sort=False))}.{count}"
    )


def known_sites(rows: pd.DataFrame) -> str:
    """Whether biology is kept for new patients of hospitals of the fit."""
    after = of(rows, KNOWN)
    better, worse, m = told(after)
    low = after.loc[after["change_low"].notna(), "change"].idxmin()
    sure = int((after["change_low"] > -MARGIN).sum())
    title = "No loss of biology is seen at known hospitals." if worse == 0 else "Some lose biology at known hospitals."
    return (
        f"**{title}** For new patients of hospitals of the fit, accuracy for the cancer type rises in {better} of "
        f"{m} cases and falls in {worse}; in {sure} a loss of {MARGIN:g} is excluded. The most lost: "
        f"{-after['change'][low]:.3f} ({low[1]} in {low[0]}; {-after['change_high'][low]:.3f} to "
        f"{-after['change_low'][low]:.3f})."
    )


def leak(rows: pd.DataFrame) -> str:
    """Say what the same measures would have shown with the corrector fitted on the rows that are scored."""
    site, unseen, before = of(rows, "site_linear"), of(rows, UNSEEN), of(rows, UNSEEN, none=True)["value"]
    site, unseen = site[site["leak"].notna()], unseen[unseen["leak"].notna()]
    if site.empty:
        return ""
    below, honest = (int((site[column] < site["chance"]).sum()) for column in ("leak", "value"))
    raw = unseen.index.get_level_values("table").map(before.droplevel("corrector"))
    flatter = unseen["leak"] - unseen["value"]
    false = int(((unseen["leak"] > raw) & (unseen["value"] <= raw)).sum())
    most = flatter.idxmax()
    return (
        f"**The leak.** Fitted on all rows, those that are scored included, the same correctors leave a linear probe "
        f"an accuracy of {span(site['leak'])} for the hospital, *below* chance in {below} of {len(site)} cases; the "
        f"honest numbers are {span(site['value'])}, below chance in {honest}. Accuracy at hospitals called unseen "
        f"comes out higher in {int((flatter > 0).sum())} of {len(flatter)} cases, most for {most[1]} in {most[0]}: "
        f"{unseen['leak'][most]:.3f} in place of {unseen['value'][most]:.3f} ({raw[unseen.index.get_loc(most)]:.3f} "
        f"without correction). In {false} of {len(flatter)} the leak shows a gain where the honest number shows none."
    )


def new_site(rows: pd.DataFrame) -> str:
    """Whether an unseen hospital is told from the others, by what the corrector does at levels it never saw."""
    names = [name for name in ("new_site_linear", "new_site_knn", "new_site_forest") if name in set(rows["name"])]
    before, parts = of(rows, names[0], none=True)["value"], []
    for name in names:
        after = of(rows, name)["value"]
        adapts = after.index.get_level_values("corrector").str.endswith("adapt")
        two = [span(one) for one in (after[adapts], after[~adapts]) if len(one)]
        parts.append(f"{READERS[name.replace('new_', '')]} {' and '.join(two)}")
    return (
        f"**A hospital that was not in the fit.** A linear probe tells it from the others with an accuracy of "
        f"{span(before)} without correction (chance 0.50). After correctors that adapt to a batch of its patients, and "
        f"after those that do not: {'; '.join(parts)}. What does not adapt cannot move what it has never seen."
    )


def confounded(rows: pd.DataFrame) -> str:
    """Say what a training set in which the hospital tells the class costs."""
    before, after, refused = of(rows, "apd", none=True), of(rows, "apd"), of(rows, "apd_not_corrected")["value"]
    if before.empty or after.empty:
        return ""
    better, worse, m = told(after)
    count = f" The change is told from 0 in {better + worse} of {m} cases: {better} better, {worse} worse." if m else ""
    return (
        f"**Confounded training sets.** Where the hospital tells the class more and more, accuracy changes on average "
        f"by {span(100 * before['value'], '+', 0)} % of what an unconfounded set gives (APD); with a corrector fitted "
        f"on the same set by {span(100 * after['value'], '+', 0)} %.{count} The corrector refused "
        f"{span(100 * refused, digits=0)} % of the sets, as where class and hospital are one; rows are "
        f"then used as they are."
    )


def cost(rows: pd.DataFrame) -> str:
    """Processor time of the slowest fit."""
    seconds = of(rows, "seconds")["value"]
    slowest = seconds.idxmax()
    return (
        f"**Time.** The slowest fit and pass takes {seconds[slowest]:.2f} s of one core ({slowest[1]} "
        f"in {slowest[0]}), the median {seconds.median():.3f} s."
    )


PARTS = (
    site_left,
    all_clear,
    other_readers,
    index_and_gain,
    other_probe,
    worst_site,
    known_sites,
    leak,
    new_site,
    confounded,
    cost,
    twins,
)
