"""The report of a run as one HTML page that needs no other file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from model.train.per_class import ClassFigures

STYLE = """\
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}
td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}img{max-width:100%}
.warning{background:#fff3cd;border-left:4px solid #e0a800;padding:.5rem 1rem;margin:.5rem 0}
"""
FIGURES = {"top1": "top-1", "top5": "top-5", "macro": "macro accuracy", "loss": "loss"}
DPI, CSS_DPI = 120, 96  # of the pictures, and of a page: letters become as large as the text
MANY = 6  # labels: of fewer top-5 says nothing
# What a picture shows, for who sees one for the first time.
READ = {
    "Curves": "Accuracy on the clips held back; figures are those of the network that is kept.",
    "Confusions": "A row for each label: what its clips were taken for. The diagonal is right.",
    "Calibration": (
        "On the line a score of 0.8 is right for 80 % of clips; below it the network is surer than "
        "it may be."
    ),
    "Clips that went most wrong": (
        "Look at these first: is the label right, and can what it says be seen in these frames?"
    ),
}


def write_page(
    file: Path,
    name: str,
    content: Mapping[str, Any],
    classes: Sequence[ClassFigures],
    pictures: Sequence[tuple[str, Path]],
) -> None:
    """Write the page.

    Args:
        file: to write.
        name: of the run.
        content: what stands in `report.json`.
        classes: figures of each class, if accuracy was measured.
        pictures: PNG files, each with its heading; they become part of the page.
    """
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<meta name=viewport content='width=device-width'><title>{escape(name)}</title>",
        f"<style>{STYLE}</style><h1>{escape(name)}</h1>",
        *(f"<p class=warning>{escape(text)}</p>" for text in content["warnings"]),
        f"<p>{escape(content['run'])}</p>" if content["run"] else "",
        _kept(content),
        _before_and_after(content),
        _classes(classes),
        *(_picture(title, file) for title, file in pictures),
        "</html>\n",
    ]
    file.write_text("\n".join(parts), encoding="utf-8")


def _picture(title: str, file: Path) -> str:
    name, png = escape(title), file.read_bytes()
    width = int.from_bytes(png[16:20], "big") * CSS_DPI // DPI
    data = base64.b64encode(png).decode()
    text = f"<p>{READ[title]}</p>" if title in READ else ""
    source = f"data:image/png;base64,{data}"
    return f"<h2>{name}</h2>{text}<img alt='{name}' width={width} src='{source}'>"


def _kept(content: Mapping[str, Any]) -> str:
    best = content["best"]
    if best is None:
        return f"<p>The network after the last of {content['updates']} updates is kept.</p>"
    return (
        f"<p>The network of epoch {best['epoch']:g} is kept (update {best['update']} of "
        f"{content['updates']}): the best by {FIGURES[best['figure']]}, "
        f"{_figure(best['value'], best['figure'])}.</p>"
    )


def _before_and_after(content: Mapping[str, Any]) -> str:
    measured = content["accuracy"]
    if "top1" not in content:
        return "<p>Accuracy was not measured: there is no data.val.</p>"
    start = measured[0] if measured and measured[0]["update"] == 0 else {}
    rows = "".join(
        f"<tr><td>{title}<td>{_figure(start.get(key), key)}<td>{_figure(content.get(key), key)}"
        for key, title in FIGURES.items()
        if key != "top5" or len(content["per_class"]) >= MANY
    )
    return (
        f"<h2>Accuracy on {content['clips']} clips</h2>"
        f"<table><tr><th><th>before training<th>after{rows}</table>"
    )


def _figure(value: float | None, key: str) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if key == "loss" else f"{value:.1%}"


def _classes(classes: Sequence[ClassFigures]) -> str:
    rows = "".join(
        f"<tr><td>{escape(c.label)}<td>{c.clips}<td>{c.taken}"
        f"<td>{_figure(c.precision, 'precision')}<td>{_figure(c.recall, 'recall')}"
        for c in classes
        if c.clips or c.taken
    )
    if not rows:
        return ""
    return (
        "<h2>Classes</h2><table><tr><th>label<th>clips<th>taken for it<th>precision<th>recall"
        f"{rows}</table>"
    )
