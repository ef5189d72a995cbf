"""Contact sheets: everything at its place, nothing over anything else, no preset left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import texture

from dreamflow import networks, sheets
from dreamflow.cli import run
from dreamflow.errors import OutputError, PresetError
from dreamflow.frames import to_array
from dreamflow.sheets import Cell, SheetProgress, compose_sheet, layout, preset_sheet, wrap
from dreamflow.video.stills import read_still, write_still

PICTURE = (200, 30, 90)

texts = st.text(max_size=60)
pictures = st.none() | st.tuples(st.integers(1, 60), st.integers(1, 60))
"""Nothing, or (height, width)."""


def picture(height: int, width: int, color: tuple[int, int, int] = PICTURE) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def cell(label: str, caption: str, size: tuple[int, int] | None) -> Cell:
    return Cell(label, caption, None if size is None else picture(*size))


def text_of(sheet, cells, columns, index) -> np.ndarray:
    """The part of the sheet below a cell's picture that is its own."""
    grid = layout(cells, columns)
    x, y = grid.corner(index)
    top = y + grid.picture_height
    return sheet[top : top + grid.text_height, x : x + grid.width]


def make_presets(folder: Path, **texts: str) -> list[str]:
    """Tiny presets in files; their names as the command line takes them."""
    steps = "dream: {octaves: 1, steps: 2, size: 48, jitter: 2}\n"
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(f"description: Look {name}.\n{steps}{text}\n")
    return [str(folder / f"{name}.yaml") for name in texts]


@pytest.fixture
def still(tmp_path) -> Path:
    write_still(tmp_path / "still.png", to_array(texture(60, 80)))
    return tmp_path / "still.png"


# ── the grid ─────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.builds(cell, texts, texts, pictures), min_size=1, max_size=7),
    st.integers(1, 5),
)
def test_pictures_are_at_their_places_and_nothing_lies_over_them(cells, columns):
    sheet, grid = compose_sheet(cells, columns), layout(cells, columns)
    assert sheet.shape == (grid.size[1], grid.size[0], 3)
    assert grid.columns * grid.rows >= len(cells) > grid.columns * (grid.rows - 1)
    taken = np.zeros(sheet.shape[:2], int)
    for index, each in enumerate(cells):
        x, y = grid.corner(index)
        bottom = y + grid.picture_height + grid.text_height
        taken[y:bottom, x : x + grid.width] += 1
        if each.picture is None:
            inside = sheet[y : y + grid.picture_height, x : x + grid.width]
            assert (inside == sheets.PLACEHOLDER).all()
        else:
            height, width, _ = each.picture.shape
            np.testing.assert_array_equal(sheet[y : y + height, x : x + width], each.picture)
    assert taken.max() == 1
    assert (sheet[taken == 0] == sheets.GROUND).all()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_every_cell_has_its_label_and_caption_and_unused_places_stay_dark(count):
    cells = [Cell(f"look {index}", "how it looks", picture(40, 60)) for index in range(count)]
    sheet, grid = compose_sheet(cells, 3), layout(cells, 3)
    for index in range(count):
        assert text_of(sheet, cells, 3, index).max() > sheets.CAPTION_INK
    for index in range(count, grid.columns * grid.rows):
        x, y = grid.corner(index)
        assert (sheet[y:, x:] == sheets.GROUND).all()


def test_labels_tell_cells_apart():
    cells = [Cell("eyes", "", picture(9, 9)), Cell("dogs", "", picture(9, 9))]
    sheet = compose_sheet(cells, 2)
    assert (text_of(sheet, cells, 2, 0) != text_of(sheet, cells, 2, 1)).any()


def test_long_names_and_captions_stay_in_their_cell():
    long = [Cell("n" * 500, "word " * 200 + "w" * 500, picture(20, 200)) for _ in range(2)]
    sheet, grid = compose_sheet(long, 2), layout(long, 2)
    right = grid.corner(0)[0] + grid.width
    assert (sheet[:, right : grid.corner(1)[0]] == sheets.GROUND).all()
    assert text_of(sheet, long, 2, 0).max() > sheets.CAPTION_INK
    assert grid.text_height < 200


@given(st.text(alphabet="ab c", max_size=80), st.integers(1, 12), st.integers(1, 4))
def test_wrapped_lines_fit_and_lose_nothing_but_what_an_ellipsis_stands_for(text, width, limit):
    lines = wrap(text, len, width, limit)
    assert len(lines) <= limit
    assert all(len(line) <= width for line in lines)
    said, given_ = "".join(lines).replace(" ", ""), "".join(text.split())
    assert given_ == said or given_.startswith(said.removesuffix("…"))
    assert ("…" in said) == (given_ != said)


def test_lines_break_between_words():
    assert wrap("dogs and eyes everywhere", len, 8, 3) == ["dogs and", "eyes", "everywh…"]


# ── presets ──────────────────────────────────────────────────────────────────────────────────────


def test_every_preset_dreams_its_own_cell_of_the_users_picture(still, tmp_path, monkeypatch):
    names = make_presets(
        tmp_path,
        soft="objectives: [{layer: features.3}]",
        hard="objectives: [{layer: features.3}]\nseed: 4",
        deep="objectives: [{layer: features.4, weight: 1}]",
    )
    built = []
    build = sheets.networks.build

    def counted(network, layers, **options):
        built.append(tuple(layers))
        return build(network, layers, **options)

    monkeypatch.setattr(sheets.networks, "build", counted)
    output = tmp_path / "sheet.png"
    events = list(preset_sheet(still, output, names, cell=40, device="cpu", threads=1))
    assert events == [SheetProgress(at, 3, name) for at, name in enumerate(names, 1)]
    assert built == [("features.3",), ("features.4",)]

    sheet = read_still(output)
    cells = [Cell("", "Look.", picture(30, 40))] * 4
    places = [layout(cells, 4).corner(index) for index in range(4)]
    untouched, *dreamed = (sheet[y : y + 30, x : x + 40].astype(int) for x, y in places)
    source = sheets.resized(read_still(still), (40, 30))
    assert abs(untouched - source).max() <= 1
    for index, each in enumerate(dreamed):
        assert 1 < abs(each - source).mean() < 60
        for other in dreamed[:index]:
            assert (each != other).any()


def test_a_preset_without_its_network_leaves_an_empty_cell_and_a_warning(still, tmp_path, caplog):
    (tmp_path / "torn.pth").write_bytes(b"not weights")
    names = make_presets(
        tmp_path,
        torn="network: alexnet:torn.pth\nobjectives: [{layer: features.0}]",
        fine="objectives: [{layer: features.3}]",
    )
    output = tmp_path / "sheet.png"
    events = list(preset_sheet(still, output, names, cell=40, device="cpu", threads=1))
    assert len(events) == 2
    assert "torn.yaml is left empty" in caplog.text
    sheet = read_still(output)
    assert ((sheet == sheets.PLACEHOLDER).all(axis=2)).sum() > 30 * 40


def test_a_sheet_of_all_fetches_nothing_and_keeps_the_order_of_the_list(
    still, tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no weights"))
    events = preset_sheet(still, tmp_path / "sheet.png", cell=40, device="cpu", threads=1)
    first = next(events)
    events.close()
    shipped = sheets.presets.shipped()
    listed = [each.name for each in shipped if networks.is_at_hand(each.network)]
    assert len(listed) < len(shipped)
    assert (first.name, first.total) == (listed[0], len(listed))
    assert not (tmp_path / "sheet.png").exists()


def test_what_exists_is_refused_before_any_work_and_replaced_if_told_to(still, tmp_path):
    (name,) = make_presets(tmp_path, soft="objectives: [{layer: features.3}]")
    output = tmp_path / "sheet.png"
    output.write_bytes(b"old")
    with pytest.raises(OutputError, match="give -y"):
        next(preset_sheet(tmp_path / "missing.png", output, [name]))
    assert output.read_bytes() == b"old"
    list(preset_sheet(still, output, [name], cell=40, device="cpu", threads=1, overwrite=True))
    assert read_still(output).ndim == 3


def test_an_unknown_preset_is_refused_before_the_picture_is_opened(tmp_path):
    with pytest.raises(PresetError, match="unknown preset"):
        next(preset_sheet(tmp_path / "missing.png", tmp_path / "sheet.png", ["nope"]))


def test_cells_are_all_of_one_size_even_larger_than_the_dream(tmp_path):
    names = make_presets(tmp_path, soft="objectives: [{layer: features.3}]")
    large, output = tmp_path / "large.png", tmp_path / "sheet.png"
    write_still(large, to_array(texture(300, 400)))
    list(preset_sheet(large, output, names, cell=400, device="cpu", threads=1))
    x, y = layout([Cell("", "Look.", picture(300, 400))] * 2, 4).corner(1)
    dreamed = read_still(output)[y : y + 300, x : x + 400]
    assert abs(dreamed.astype(int) - read_still(large))[200:, 300:].mean() < 40


def test_the_command_writes_the_sheet_of_the_presets_named(still, tmp_path, capsys):
    names = make_presets(tmp_path, soft="objectives: [{layer: features.3}]")
    output = tmp_path / "sheet.png"
    words = ["presets", "sheet", "--image", str(still), "-o", str(output), "--only", *names]
    words += ["--device", "cpu", "--threads", "1"]
    assert run(words) == 0
    cells = [Cell("", "", picture(60, 80))] * 2
    assert read_still(output).shape[1] == layout(cells, 4).size[0]
    assert run(words) == 73
    assert "give -y" in capsys.readouterr().err


def test_a_preset_that_listens_is_dreamed_without_a_sound(tmp_path):
    still, output, name = tmp_path / "in.png", tmp_path / "sheet.png", tmp_path / "p.yaml"
    write_still(still, picture(30, 40))
    name.write_text("objectives: [{layer: features.4}]\ndream: {steps: 4*audio.beat, octaves: 1}\n")
    events = preset_sheet(still, output, [str(name)], cell=40, device="cpu", threads=1)
    assert len(list(events)) == 1
    assert read_still(output).ndim == 3
