"""Write ``docs/data.md``: the public data sets that have a loader, from the loaders themselves and their cards.

python -m experiments.data_page
"""

from __future__ import annotations

from pathlib import Path

from causalfm.auditing.report import write_text
from causalfm.datasets.public_sets import described

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "data.md"
CARDS = ROOT / "datasets"
SECTIONS = ("What", "Roles", "Files", "Licence", "Cite", "Traps", "Checksums", "Where it was read", "Verified here")

HEAD = """# Public data sets

Loaders read what you have on disk, in the layout in which its authors publish it, and declare the causal roles of its
columns. Nothing is downloaded unless you ask.

<!-- not run: downloads data -->
```python
import causalfm as cfm
from causalfm.datasets import scorpion

scorpion.download("scorpion")  # or: causalfm data get scorpion scorpion
cohort = cfm.extract(scorpion.images("scorpion"), "uni2-h", out="scorpion-uni2h")
audit = cfm.audit(cohort, scorpion.graph())
```

`images(folder)` gives what `cfm.extract` takes, with the table of the images: a manifest of paths, or the images inside
the files of the set. `load(folder)` gives a cohort where the set comes as numbers, or where the authors' own scripts
have extracted features. `graph()` gives the roles; what is not measured is said in the card. Where the same tissue was
seen by several scanners (PLISM, SCORPION), `cfm.metrics.paired_similarity` and `paired_retrieval` compare the views.

"""

TAIL = """
## Downloads

`causalfm data get NAME FOLDER`, or `download(folder)` in the module of the set.

- Only https, only from the hosts that the loader names; a redirection to another host is refused, and `hosts=` or
  `--allow-host` allows it. Files of the Hugging Face hub come through its own client, with your login where one is
  needed.
- A download that was cut goes on where it stopped, if the server confirms that the file is the same. A file appears
  under its name when it is whole and checked.
- A checksum that the source publishes is compared at arrival. Where none is published, the SHA-256 of the first
  download is recorded in `causalfm-lock.json` and every later download is compared with it.
  `causalfm data check FOLDER` compares the files on disk.
- Room on the disk is looked at before. Archives are unpacked without links, without names that leave the folder, and
  only as far as a limit.
- Terms that restrict use must be accepted in words: `--accept "CC BY-NC-SA 4.0"`. Credentialed sets are never fetched:
  apply at the source, and pass the folder of your copy.

No loader was run on a full download when this page was written: they are tested on miniatures in the published layout.
Each card says where every fact of the layout was read, and what was not verified. A first real download that does not
fit the card is a defect worth reporting.

Not in this list, because their files come with the project or were made by it: AMi-Br (`datasets/amibr.md`) and TCGA
slides as HIPT embeddings (`datasets/tcga_hipt.md`). All cards: [the reference](api/data_sets.md).
"""


def page() -> str:
    """Return the page as Markdown."""
    head = "| set | biology | technical | covariates | group | specimen | size | licence | access |"
    rows = [head, "|" + "---|" * head.count(" | ") + "---|"]
    for data, roles in described():
        names = [f"`{value.replace(', ', '`, `')}`" if value else "" for value in roles.values()]
        cells = [
            f"{data.title}: `datasets/{data.name}.md`",
            *names,
            data.size,
            f"[{data.licence}]({data.terms})",
            data.access,
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return HEAD + "\n".join(rows) + "\n" + traps() + TAIL


def traps() -> str:
    """Return the first trap of each card: what a user should know before any other."""
    lines = ["\n## Before any other: one trap of each set\n"]
    for data, _ in described():
        text = (CARDS / f"{data.name}.md").read_text("utf-8").split("**Traps.**\n", 1)[1]
        first = text.split("\n- ")[0].removeprefix("- ").split("\n\n")[0]
        lines.append(f"- {data.title}: {' '.join(first.split())}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_text(page(), PAGE)
    print(f"{PAGE.relative_to(ROOT)} is written.")
