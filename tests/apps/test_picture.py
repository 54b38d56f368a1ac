"""The picture: patient planes, windows, checkerboard and overlay, files and refusals."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from medmi.apps.picture import checkerboard, overlay, save_comparison
from medmi.apps.planes import AXIAL, CORONAL, PLANES, SAGITTAL, sample, view_of, window
from medmi.grid import Grid
from medmi.validation import InputError

AFFINE = torch.tensor(
    [[0.2, 2.9, 0.3, -60], [1.1, -0.4, 0.5, -30], [-0.1, 0.3, 2.4, -25], [0, 0, 0, 1]], dtype=torch.float64
)
GRID = Grid((53, 43, 29), AFFINE)


def blob(grid: Grid, centre: torch.Tensor, radius: float) -> MetaTensor:
    distance = (grid.points() - centre).norm(dim=-1)
    return MetaTensor(torch.sigmoid(radius - distance).float()[None], affine=grid.affine)


def shown(image: MetaTensor, plane) -> torch.Tensor:
    grid = Grid.of(image)
    view = view_of(image.as_tensor()[0], grid)
    return sample(image.as_tensor()[0], grid.index_to_unit(grid.world_to_index(view.points(plane))))


@pytest.mark.parametrize(
    ("plane", "axis", "towards"),
    [
        (AXIAL, 0, "left"),
        (AXIAL, 1, "top"),
        (CORONAL, 0, "left"),
        (CORONAL, 2, "top"),
        (SAGITTAL, 1, "left"),
        (SAGITTAL, 2, "top"),
    ],
)
def test_planes_are_seen_as_radiologists_do(plane, axis, towards):
    """A second, smaller ball towards the patient's right, front or top lies on the side the letters say."""
    ball = blob(GRID, GRID.centre, 20.0)
    offset = torch.zeros(3, dtype=torch.float64)
    offset[axis] = 13.0
    marked = MetaTensor((ball.as_tensor() + 3 * blob(GRID, GRID.centre + offset, 4.0).as_tensor()), affine=AFFINE)
    picture = shown(marked, plane)
    row, column = divmod(int(picture.argmax()), picture.shape[1])
    place = {"left": column / picture.shape[1], "top": row / picture.shape[0]}
    assert place.pop(towards) < 0.35
    assert 0.4 < place.popitem()[1] < 0.6


@pytest.mark.parametrize("plane", PLANES[3])
def test_a_ball_is_round_on_anisotropic_voxels(plane):
    picture = shown(blob(GRID, GRID.centre, 18.0), plane) > 0.5
    rows, columns = picture.any(1).sum(), picture.any(0).sum()
    assert abs(int(rows) - int(columns)) <= 3
    assert int(rows) == pytest.approx(36 / float(GRID.spacing.min()), abs=3)


def test_a_picture_file_is_shown_as_it_is():
    """A PNG's index (column, row) has the affine diag(-1, -1): column 0 is on the left, row 0 at the top."""
    image = torch.rand((40, 30), generator=torch.Generator().manual_seed(0)) + 1
    meta = MetaTensor(image[None], affine=torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)))
    picture = shown(meta, AXIAL)
    assert picture.shape == (30, 40)
    assert torch.allclose(picture[3:-3, 3:-3], image.T[3:-3, 3:-3], atol=1e-4)


def test_the_window_leaves_out_padding_and_outliers():
    values = torch.cat((torch.zeros(500), torch.linspace(10, 20, 1000), torch.tensor([1e6])))
    low, high = window(values)
    assert low == pytest.approx(10.1, abs=0.05) and high == pytest.approx(19.96, abs=0.06)
    assert window(torch.zeros(10)) == (0.0, 1.0)
    assert window(torch.full((10,), 3.0)) == (2.5, 3.5)


def test_checkerboard_takes_turns_and_equal_images_overlay_in_white():
    tiles = torch.tensor([[True, False]])
    board = checkerboard(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 0.0]]), tiles)
    assert float(board[0, 0].min()) > 0.7 and float(board[0, 1].max()) == 0
    white = overlay(torch.ones(1, 1), torch.ones(1, 1))[0, 0]
    assert float(white.min()) == 1.0
    first, second = overlay(torch.ones(1, 1), torch.zeros(1, 1)), overlay(torch.zeros(1, 1), torch.ones(1, 1))
    assert float(first[0, 0, 2]) > 0.8 and float(second[0, 0, 0]) == 1.0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dims", [2, 3])
def test_writes_one_png_and_nothing_else(tmp_path, dims, channels):
    grid = GRID if dims == 3 else Grid((31, 47), [[1.5, 0.2, -20], [-0.3, 2.5, 9], [0, 0, 1]])
    image = blob(grid, grid.centre, 15.0)
    image = MetaTensor(image.as_tensor().expand(channels, *grid.shape), affine=grid.affine)
    before = MetaTensor(image.as_tensor().roll(5, 1), affine=grid.affine)
    save_comparison(image, before, image, tmp_path / "picture.png")
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.format == "PNG" and picture.width > 1000
        assert (picture.height > 900) == (dims == 3)


def test_constant_and_not_finite_images_are_shown_all_the_same(tmp_path):
    image = MetaTensor(torch.full((1, *GRID.shape), torch.nan), affine=AFFINE)
    flat = MetaTensor(torch.ones((1, *GRID.shape)), affine=AFFINE)
    save_comparison(image, flat, flat, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_another_grid_is_refused(tmp_path):
    image = blob(GRID, GRID.centre, 15.0)
    other = MetaTensor(image.as_tensor()[:, :-1], affine=AFFINE)
    with pytest.raises(InputError, match=r"moving_before of shape \(1, 52, 43, 29\) is not on the fixed"):
        save_comparison(image, other, image, tmp_path / "picture.png")
    shifted = MetaTensor(image.as_tensor(), affine=AFFINE + torch.eye(4)[:, [3, 0, 1, 2]] * 0.5)
    with pytest.raises(InputError, match="moved of shape"):
        save_comparison(image, image, shifted, tmp_path / "picture.png")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    image = blob(GRID, GRID.centre, 15.0)
    with pytest.raises(InputError, match="cannot be written"):
        save_comparison(image, image, image, tmp_path / "none" / "picture.png")
