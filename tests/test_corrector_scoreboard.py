"""The page on correctors at hospitals of TCGA: every claim follows from its table, and nothing points to a patient."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalfm.datasets import tcga_hipt
from experiments.corrector_scoreboard import __main__ as command
from experiments.corrector_scoreboard import reading, study
from experiments.corrector_scoreboard.page import page
from experiments.corrector_scoreboard.picture import STYLES, draw

DOCS = Path(__file__).parents[1] / "docs"
NONE = "no correction"


@pytest.fixture(scope="module")
def fast(data_dir, tmp_path_factory):
    """The rehearsal on one set, run by the command, and run again from its record."""
    out = tmp_path_factory.mktemp("scoreboard")
    asked = [str(data_dir), "--out", str(out), "--records", str(out / "records"), "--fast", "--table", "kidney"]
    command.main(asked)
    first = (out / "scoreboard.md").read_text(encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study.estimators, "scoreboard", None)  # a finished set is not run again
        command.main(asked)
    assert (out / "scoreboard.md").read_text(encoding="utf-8") == first
    return pd.read_csv(out / "scoreboard.csv"), first, out


def published():
    return pd.read_csv(DOCS / "scoreboard.csv")


def flat(text):
    return re.sub(r"\s+", " ", text)


def paragraph(text, title):
    """Return the point of the reading that starts with a title."""
    found = re.search(rf"- \*\*{re.escape(title)}.*?(?=\n- \*\*|\n\n)", text, re.DOTALL)
    assert found, title
    return flat(found.group())


def numbers(text):
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d+|[-+]?\b\d+\b", text)]


def after(rows, name):
    found = rows[(rows["name"] == name) & (rows["corrector"] != NONE) & rows["value"].notna()]
    return found.set_index(["table", "corrector"])


def check_claims(rows, text):
    """Re-derive what the reading says, with code of its own."""
    site = after(rows, "site_linear")
    known = site[site["low"].notna()]
    said = paragraph(
        text, "No corrector removes" if (known["low"] > known["chance"]).all() else "The hospital is removed"
    )
    assert f"{site['value'].min():.2f}" in said
    assert f"{site['value'].max():.2f}" in said
    assert f"in {(site['low'] > site['chance']).sum()} of {site['low'].notna().sum()} cases" in said

    fooled = after(rows, "from_fit_linear")["value"]
    assert f"in {(fooled < site['value']).sum()} of {len(fooled)} cases" in paragraph(text, "The false all-clear")

    others = [after(rows, name)["value"] for name in ("site_knn", "site_forest") if name in set(rows["name"])]
    more = sum(any(other[cell] > site["value"][cell] for other in others) for cell in site.index)
    assert f"in {more} of {len(site)} cases" in paragraph(text, "A linear probe")

    index, gain = after(rows, "robustness_index"), after(rows, "biology_new_site")
    up, better = (int((scores["change_low"] > 0).sum()) for scores in (index, gain))
    titles = ("Index and accuracy", "The index rises more often", "A better index is not a better classifier")
    said = paragraph(text, titles[int(better < up) + int(2 * better < up)])
    sure = gain[gain["change_low"].notna()]
    assert f"rises (interval above 0) in {up} of {index['change_low'].notna().sum()} cases" in said
    assert f"has seen rises in {better} of {len(sure)} and falls in {(gain['change_high'] < 0).sum()}" in said
    assert f"{sure['change'].max():+.3f}" in said

    raw = rows[(rows["corrector"] == NONE)].set_index(["table", "name"])["value"]
    probes = {name: after(rows, name)["value"] for name in ("biology_new_site", "unseen_by_logistic")}
    signs = {name: [value > raw[table, name] for (table, _), value in probe.items()] for name, probe in probes.items()}
    ahead = [sum(sign) for sign in signs.values()]
    said = paragraph(
        text, "The probe decides" if signs["biology_new_site"] != signs["unseen_by_logistic"] else "Another"
    )
    assert f"positive for the one in {ahead[0]} of {len(gain)} cases and for the other in {ahead[1]} (" in said

    known = after(rows, "biology")
    worse = int((known["change_high"] < 0).sum())
    said = paragraph(text, "Some lose biology" if worse else "No loss of biology")
    assert f"falls in {worse}; in {(known['change_low'] > -0.02).sum()} a loss of 0.02 is excluded" in said

    said = paragraph(text, "The leak")
    assert f"*below* chance in {(site['leak'] < site['chance']).sum()} of {len(site)} cases" in said
    assert f"{(gain['leak'] - gain['value']).clip(lower=0).gt(0).sum()} of {len(gain)} cases" in said
    before = np.array([raw[table, "biology_new_site"] for table, _ in gain.index])
    assert f"In {((gain['leak'] > before) & (gain['value'] <= before)).sum()} of {len(gain)} the leak shows" in said

    for table, part in rows.groupby("table"):
        named = part["recommended"].dropna().unique()
        said = paragraph(text, table)
        if len(named):
            score = after(part, "biology_new_site").loc[(table, named[0])]
            assert said.lower().startswith(f"- **{table}**: {named[0]} helps".lower())
            assert score["joint_low"] > 0
        else:
            assert "helps:" not in said


def test_the_claims_of_the_rehearsal_follow_from_its_table(fast):
    rows, text, _ = fast
    check_claims(rows, text)
    assert set(rows["corrector"]) == {NONE, *study.FAST.names}


def test_the_published_page_is_made_from_the_published_table():
    rows, text = published(), (DOCS / "scoreboard.md").read_text(encoding="utf-8")
    assert page(rows) == text
    check_claims(rows, text)
    assert set(rows["table"]) == set(study.TABLES.values())
    assert set(study.correctors()) <= set(rows["corrector"]) <= set(STYLES)


def test_the_words_turn_with_the_numbers():
    rows = published()
    turned = rows.copy()
    chosen = turned["name"] == "biology_new_site"
    turned.loc[chosen, ["change", "change_low", "change_high"]] = 0.1, 0.05, 0.15
    assert "Index and accuracy rise together" in reading.index_and_gain(turned)
    turned.loc[turned["name"] == "biology", "change_high"] = -0.01
    assert "Some lose biology" in reading.known_sites(turned)
    turned.loc[turned["name"] == "site_linear", "low"] = 0.0
    assert "The hospital is removed in part" in reading.site_left(turned)


def test_sums_only(fast, data_dir):
    rows, text, out = fast
    cohort = tcga_hipt.load(data_dir)
    for name in ("case", "slide"):
        values = set(cohort.obs[name].astype(str))
        for written in (text, rows.to_csv(), (DOCS / "scoreboard.csv").read_text(encoding="utf-8")):
            assert not any(value in written for value in values)
    assert (out / "images" / "scoreboard.png").stat().st_size > 10_000


def test_the_picture_shows_every_corrector(tmp_path):
    from PIL import Image

    draw(published(), tmp_path / "all.png")
    rows = published()
    draw(rows[rows["corrector"].isin([NONE, "LinearEraser"])], tmp_path / "one.png")
    shown = [np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in ("all", "one")]
    assert (shown[0] < 250).any(axis=2).sum() > (shown[1] < 250).any(axis=2).sum()
