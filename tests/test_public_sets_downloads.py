"""How public sets arrive: the terms, the downloads, the command, and the page that tells of them."""

import hashlib
import json

import miniatures
import pytest
from command_line import typed
from file_server import serving

from causalfm.datasets import (
    abide,
    chexpert,
    fetching,
    midogpp,
    mimic_cxr,
    pathorob,
    plism,
    public_sets,
    scorpion,
    tcga_ut,
    wilds_camelyon17,
)
from causalfm.datasets.checksum_lock import read_lock
from causalfm.datasets.public_set import agree
from causalfm.errors import DataError
from experiments import data_page


def test_terms_are_accepted_in_words():
    for module in (tcga_ut, abide, pathorob):
        with pytest.raises(DataError, match="say so: accept="):
            agree(module.SET, "yes")
        agree(module.SET, module.SET.licence.upper())
    for module in (mimic_cxr, chexpert):
        with pytest.raises(DataError, match=r"credentialed users only: apply at https"):
            module.download("anywhere", accept=module.SET.licence)


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    with serving() as site:
        yield site


def zipped(folder, path):
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(folder).as_posix())
    return path.read_bytes()


def test_archives_of_zenodo_arrive_ready_to_load(site, tmp_path):
    content = zipped(miniatures.scorpion(tmp_path / "s"), tmp_path / "s.zip")
    site.zenodo(scorpion.RECORD, **{scorpion.ARCHIVE: content})
    assert len(scorpion.download(tmp_path / "a", api=site.url)) == 1
    assert scorpion.download(tmp_path / "a", api=site.url) == [], "neither fetched nor unpacked again"
    assert len(scorpion.images(tmp_path / "a")) == 20
    lungs = miniatures.tcga_ut(tmp_path / "t")
    for cancer in ("Lung_adenocarcinoma", "Lung_squamous_cell_carcinoma"):
        (tmp_path / "one").mkdir()
        (lungs / cancer).rename(tmp_path / "one" / cancer)
        site.zenodo(tcga_ut.RECORD, **{f"{cancer}.zip": zipped(tmp_path / "one", tmp_path / "t.zip")})
        tcga_ut.download(tmp_path / "b", accept="cc by-nc-sa 4.0", api=site.url)
        (tmp_path / "one" / cancer).rename(lungs / cancer)
        (tmp_path / "one").rmdir()
    assert tcga_ut.images(tmp_path / "b")["cancer"].nunique() == 2


def test_camelyon17_is_unpacked_and_locked(site, tmp_path, monkeypatch):
    import tarfile

    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as archive:
        archive.add(miniatures.camelyon17(tmp_path / "c"), arcname=".")
    content = (tmp_path / "c.tar.gz").read_bytes()
    remote = fetching.RemoteFile(wilds_camelyon17.ARCHIVE.name, site.add("/blob", content), size=len(content))
    monkeypatch.setattr(wilds_camelyon17, "ARCHIVE", remote)
    wilds_camelyon17.download(tmp_path / "a")
    assert len(wilds_camelyon17.images(tmp_path / "a")) == 6
    locked = read_lock(tmp_path / "a")["files"]
    assert locked[remote.name]["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_hub_sets_arrive_at_pinned_or_locked_commits(site, tmp_path, monkeypatch):
    miniatures.pathorob(tmp_path / "p")
    files = {f"data__{p.name}": p.read_bytes() for p in sorted((tmp_path / "p" / "camelyon" / "data").iterdir())}
    site.hub("bifold-pathomics/PathoROB-camelyon", pathorob.REVISIONS["camelyon"], **files, **{"README.md": b"words"})
    table = miniatures.patches_of_pathorob().to_csv(index=False).encode()
    site.add("/data/metadata/camelyon.csv", table)
    where = {"endpoint": site.url, "raw": site.url}
    with pytest.raises(DataError, match=r"metadata/camelyon.csv: the sha256 of what arrived"):
        pathorob.download(tmp_path / "a", parts=["camelyon"], **where)
    monkeypatch.setitem(pathorob.DESIGNS, "camelyon", ("camelyon.csv", hashlib.sha256(table).hexdigest()))
    pathorob.download(tmp_path / "a", parts=["camelyon"], **where)
    assert len(pathorob.images(tmp_path / "a", "camelyon")) == 12
    with pytest.raises(DataError, match="say so: accept="):
        pathorob.download(tmp_path / "a", endpoint=site.url)
    (tmp_path / "h").mkdir()
    slides = {p.name: p.read_bytes() for p in sorted(miniatures.plism(tmp_path / "h").iterdir())}
    site.hub(plism.REPOSITORY, "cd" * 20, **slides)
    plism.download(tmp_path / "b", parts=["GMH_S60"], endpoint=site.url)
    site.files[f"/api/datasets/{plism.REPOSITORY}"] = json.dumps({"id": "x", "sha": "ef" * 20}).encode()
    plism.download(tmp_path / "b", parts=["GMH_S60", "GMH_AT2"], endpoint=site.url)  # still at the first commit
    assert len(plism.images(tmp_path / "b")) == 6
    with pytest.raises(DataError, match="has no file of these parts"):
        plism.download(tmp_path / "b", parts=["GMH_X"], endpoint=site.url)


def test_regions_of_midogpp_come_by_the_authors_own_list(site, tmp_path):
    whole = miniatures.midogpp(tmp_path / "m")
    listing = json.dumps({"cells": [{"source": ["filename = {'40282099': '001.tiff',\n", " '40283000': '350.tiff'}"]}]})
    tables = [
        fetching.RemoteFile(name, site.add(f"/{name.replace('+', 'p')}", content))
        for name, content in (
            (midogpp.DATABASE, (whole / midogpp.DATABASE).read_bytes()),
            (midogpp.DOMAINS, (whole / midogpp.DOMAINS).read_bytes()),
            (midogpp.LISTING, listing.encode()),
        )
    ]
    site.add("/files/40282099", (whole / "001.tiff").read_bytes())
    midogpp.download(tmp_path / "a", parts=["human breast cancer"], tables=tables, figshare=f"{site.url}/files")
    assert len(midogpp.images(tmp_path / "a", tumours=["human breast cancer"])) == 2


def test_abide_comes_participant_by_participant(site, tmp_path):
    whole = miniatures.abide(tmp_path / "w")
    for path in whole.rglob("*"):
        if path.is_file():
            site.add(f"/{path.relative_to(whole).as_posix()}", path.read_bytes())
    seen, terms = [], {"accept": "non-commercial research use", "base": site.url}
    abide.download(tmp_path / "a", parts=["NYU"], progress=lambda *p: seen.append(p[0]), **terms)
    assert set(seen) == {abide.PHENOTYPES, *(f"series {i} of 3" for i in (1, 2, 3))}, "names of files are participants"
    assert len(abide.load(tmp_path / "a", sites=["NYU"])) == 3


def test_the_command_line_lists_refuses_and_checks(tmp_path, monkeypatch, capsys):
    def run(*arguments):
        return typed(monkeypatch, "data", *arguments), "".join(capsys.readouterr())

    code, text = run("list")
    assert code == 0
    assert all(f"{name}: " in text for name in public_sets.NAMES)
    assert "technical scanner, stain" in text
    assert run("get", "tcga_ut", tmp_path)[0] == 2
    code, text = run("get", "scorpion", tmp_path, "--parts", "slide_1")
    assert (code, "comes as a whole" in text) == (2, True)
    code, text = run("get", "scorpion", tmp_path, "--allow-host", "example.org")
    assert (code, "leave out --allow-host" in text) == (2, True)
    code, text = run("get", "mimic", tmp_path)
    assert (code, "choose from pathorob" in text) == (2, True)
    code, text = run("check", tmp_path)
    assert (code, "nothing was fetched" in text) == (2, True)
    with serving() as site:
        content = zipped(miniatures.scorpion(tmp_path / "s"), tmp_path / "s.zip")
        site.zenodo(scorpion.RECORD, **{scorpion.ARCHIVE: content})
        defaults = {**scorpion.download.__kwdefaults__, "api": site.url}
        monkeypatch.setattr(scorpion.download, "__kwdefaults__", defaults)
        code, text = run("get", "scorpion", tmp_path / "a")
    assert (code, "CC BY 4.0" in text, "Done: " in text) == (0, True, True)
    assert run("check", tmp_path / "a")[0] == 0
    (tmp_path / "a" / scorpion.ARCHIVE).write_bytes(b"")
    code, text = run("check", tmp_path / "a")
    assert (code, "1 of 1 files are missing or not as recorded" in text) == (2, True)


def test_the_page_on_data_is_what_the_loaders_and_cards_say():
    assert data_page.PAGE.read_text("utf-8") == data_page.page()
    for name in public_sets.NAMES:
        card = (data_page.CARDS / f"{name}.md").read_text("utf-8")
        credentialed = public_sets.module_of(name).SET.apply_at
        missing = [title for title in data_page.SECTIONS if f"**{title}.**" not in card]
        assert missing == [], f"{name}.md lacks {missing}"
        assert not credentialed or credentialed.removeprefix("https://") in card
