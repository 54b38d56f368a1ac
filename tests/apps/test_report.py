"""The report: its content, that it escapes, needs nothing from outside and names no patient."""

from __future__ import annotations

import base64
import dataclasses
import html.parser
import io
import math
import pathlib
import re

import pytest
from PIL import Image

from medmi.apps.chart import BOTTOM, LEFT, RIGHT, TOP, chart
from medmi.apps.report import ImageSummary, ReportData, render, write_report
from medmi.validation import InputError

DATA = ReportData(
    status="converged",
    seconds=0.734,
    images=(ImageSummary("fixed", (19, 23, 29), (1.2, 0.9375, 3.0)), ImageSummary("moving", (64, 48), (2.0, 1.5))),
    parameters={"transform": ["rigid", "affine"], "similarity": "mi", "seed": 0, "initial": None, "step": 0.125},
    matrix=((0.9, -0.1, 12.345678), (0.1, 0.9, -4.0), (0.0, 0.0, 1.0)),
    similarity=0.61234,
    overlap=0.873,
    history=((0, 0.1), (0, 0.3), (1, 0.25), (1, 0.5), (1, 0.61)),
    timings={"reading": 0.2, "registration": 0.734},
    versions={"medmi": "0.1.0", "torch": "2.13.0"},
)


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), (10, 20, 30)).save(stream, "PNG")
    return stream.getvalue()


class Page(html.parser.HTMLParser):
    """Tags with their attributes, open tags left over, and the visible words."""

    VOID = frozenset({"meta", "img", "line", "polyline"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += "" if "style" in self.open else data + "\n"


def test_everything_given_is_there():
    page = Page(render(DATA))
    assert page.open == []
    for words in ("converged", "0.6123", "87%", "0.73", "19 × 23 × 29", "1.2 × 0.9375 × 3", "64 × 48", "12.345678"):
        assert words in page.words
    for words in ("rigid, affine", "none", "0.125", "reading", "0.20 s", "torch", "2.13.0", "level 1", "level 2"):
        assert words in page.words


def test_what_is_unknown_is_not_mentioned():
    assert "confidence" not in render(DATA).lower() and "expected error" not in render(DATA).lower()
    known = render(dataclasses.replace(DATA, confidence=0.93, expected_error_mm=0.84))
    assert "93%" in known and "0.84 mm" in known and "foreground" not in known
    bare = Page(render(ReportData("failed: no overlap", 0.1, ())))
    for title in ("Transform", "Similarity", "Parameters", "Timings", "Versions", "Before and after"):
        assert title not in bare.words


def test_the_confidence_says_what_it_means_and_names_other_poses():
    judged = dataclasses.replace(
        DATA, confidence=0.62, expected_error_mm=1.7, error_limit_mm=2.94, alternatives=((0.31, 24.6), (0.02, 110.2))
    )
    words = Page(render(judged)).words
    assert "62%" in words and "under 2.9 mm" in words
    assert "24.6 mm away" in words and "probability 31%" in words and "110 mm away" in words
    assert "Other poses" not in Page(render(dataclasses.replace(judged, alternatives=()))).words


def test_no_confidence_is_shown_as_certain():
    certain, none = (render(dataclasses.replace(DATA, confidence=c)) for c in (0.9999, 0.0))
    assert "99%" in certain and "100%" not in Page(certain).words
    assert "<b>1%</b>" in none


@pytest.mark.parametrize(
    ("status", "tone"), [("converged", "good"), ("max_iterations", "fair"), ("failed: no overlap", "bad")]
)
def test_the_status_has_its_tone(status, tone):
    tags = Page(render(dataclasses.replace(DATA, status=status))).tags
    assert ("span", {"class": f"status {tone}"}) in tags


def test_markup_in_values_is_escaped():
    nasty = "<script>alert('x')</script>"
    data = dataclasses.replace(
        DATA, status=f"failed: {nasty}", parameters={nasty: "<b>"}, versions={"a": '"><img src=x>'}
    )
    page = Page(render(data))
    assert "script" not in [tag for tag, _ in page.tags]
    assert [tag for tag, _ in page.tags].count("img") == 0
    assert "<script>" in page.words


def test_nothing_is_fetched(tmp_path):
    (tmp_path / "picture.png").write_bytes(png())
    write_report(DATA, tmp_path / "report.html", tmp_path / "picture.png")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [a for _, attrs in Page(text).tags for a in ("href", "srcset", "action") if a in attrs] == []
    sources = [attrs["src"] for _, attrs in Page(text).tags if "src" in attrs]
    assert len(sources) == 1 and sources[0].startswith("data:image/png;base64,")
    assert base64.b64decode(sources[0].split(",")[1]) == png()
    assert re.findall(r"https?://[^\"\s]+", text) == ["http://www.w3.org/2000/svg"]
    assert "@import" not in text and "url(" not in text and "<script" not in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["picture.png", "report.html"]


def test_paths_and_names_of_files_do_not_get_in():
    data = dataclasses.replace(
        DATA,
        status="failed: /data/Doe^John 1970/CT: constant image",
        parameters={
            "initial": "/home/me/Doe^John/start.tfm",
            "fixed_mask": pathlib.Path("Doe^John"),
            "moving_mask": "Doe^John.nii.gz",
            "preset": r"C:\Doe^John\preset.yaml",
            "transform": ["rigid", "Doe^John/x"],
        },
    )
    page = render(data)
    assert "Doe" not in page and "home" not in page and "1970" not in page
    assert Page(page).words.count("a file") == 7  # the status stands in the title too


def test_a_message_without_a_path_stays_whole():
    words = "failed: similarity rose by 0.1 nat/mm and/or the overlap is < 10%"
    assert words in Page(render(dataclasses.replace(DATA, status=words))).words


def test_the_chart_spans_its_frame_and_leaves_out_what_is_not_finite():
    drawn = chart(((0, 1.0), (0, math.nan), (0, 3.0), (1, 2.0), (1, 5.0)))
    first, second = ([tuple(map(float, p.split(","))) for p in line.points.split()] for line in drawn.lines)
    assert first == [(LEFT, BOTTOM), (LEFT + (RIGHT - LEFT) / 2, (TOP + BOTTOM) / 2)]
    assert second[-1] == (RIGHT, TOP)
    assert [tick.label for tick in drawn.ticks] == ["1", "2", "3", "4", "5"]
    assert chart(()) is None and chart(((0, 1.0),)) is None and chart(((0, math.nan), (0, 1.0))) is None
    assert len(chart(((0, 0.0), (0, 0.0))).lines) == 1


@pytest.mark.parametrize(("content", "why"), [(b"GIF89a", "is no PNG file"), (None, "cannot be read")])
def test_a_picture_that_is_none_is_refused(tmp_path, content, why):
    if content is not None:
        (tmp_path / "picture.png").write_bytes(content)
    with pytest.raises(InputError, match=f"write_report: picture picture.png {why}"):
        write_report(DATA, tmp_path / "report.html", tmp_path / "picture.png")
    assert not (tmp_path / "report.html").exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_report(DATA, tmp_path / "none" / "report.html")
