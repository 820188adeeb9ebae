"""Write the tables of ``docs/encoders.md`` from the specs: ``python -m experiments.encoder_table docs/encoders.md``."""

from __future__ import annotations

import argparse
from pathlib import Path

from causalfm.extraction import ENCODERS, EncoderSpec

BEGIN, END = "<!-- from the specs: begin -->", "<!-- from the specs: end -->"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _picture(spec: EncoderSpec) -> str:
    resized = f"{spec.resize} px" if spec.resize else ""
    rule = (
        "shorter side " + (resized or f"{spec.input_size} px") + ", centre" if spec.crop else "squeezed to the square"
    )
    return f"{spec.input_size} px; {rule}; {spec.interpolation.lower()}"


def _numbers(values: tuple[float, ...]) -> str:
    rounded = [f"{value:.6g}" for value in values]
    return rounded[0] if len(set(rounded)) == 1 else ", ".join(rounded)


def tables() -> str:
    """Return the tables: what each encoder gives and asks for, what it sees, where the facts stand."""
    given = [_line(["encoder", "length", "pooling", "weights", "licence", "gated"]), _line(["---"] * 6)]
    seen = [_line(["encoder", "picture", "mean", "std", "precision"]), _line(["---"] * 5)]
    facts = [_line(["encoder", "loader", "hub", "checked", "source", "note"]), _line(["---"] * 6)]
    for spec in ENCODERS.values():
        weights = spec.parameters or "not stated"
        pooling = spec.pooling if spec.pooling != "network" else "by the network"
        given.append(
            _line([spec.name, str(spec.dimension), pooling, weights, spec.licence, "yes" if spec.gated else "no"])
        )
        seen.append(_line([spec.name, _picture(spec), _numbers(spec.mean), _numbers(spec.std), spec.precision]))
        hub = f"[{spec.hub}](https://huggingface.co/{spec.hub})" if spec.hub else "none"
        facts.append(_line([spec.name, str(spec.loader), hub, spec.verified, spec.source, spec.note]))
    blocks = (("What comes out", given), ("What goes in", seen), ("Where it stands", facts))
    return "\n\n".join(f"### {title}\n\n" + "\n".join(lines) for title, lines in blocks)


def renewed(page: str) -> str:
    """Return the page with the tables between its two marks replaced."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def main(arguments: list[str] | None = None) -> None:
    """Renew the page."""
    parser = argparse.ArgumentParser(description="Write the tables of encoders from the specs.")
    parser.add_argument("page", type=Path, nargs="?", default=Path("docs/encoders.md"))
    page = parser.parse_args(arguments).page
    page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
