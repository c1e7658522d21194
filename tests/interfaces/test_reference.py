"""A reference picture: where the object is, how it is framed, and what is said of pictures that do not serve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dfw import ConfigError, ReferenceConfig, read_reference
from dfw.config.settings import RunConfig


def saved(path: Path, pixels: np.ndarray, mode: str) -> str:
    Image.fromarray(pixels, mode).save(path)
    return str(path)


def cut_out(path: Path, rows: slice, columns: slice, shape: tuple[int, int] = (120, 200)) -> str:
    """A red object before a transparent green background; its first column is blue."""
    pixels = np.zeros((*shape, 4), np.uint8)
    pixels[..., 1] = 255
    pixels[rows, columns] = (255, 0, 0, 255)
    pixels[rows, columns.start] = (0, 0, 255, 255)
    return saved(path, pixels, "RGBA")


def read(**fields: object) -> torch.Tensor:
    return read_reference(ReferenceConfig.model_validate(fields))


def box(picture: torch.Tensor) -> tuple[int, ...]:
    """First and last row, first and last column of what is opaque."""
    rows, columns = (torch.nonzero(picture[..., 3].amax(axis) > 0.5)[:, 0] for axis in (1, 0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def test_the_object_stands_in_the_middle_of_a_square_and_takes_its_share(tmp_path: Path) -> None:
    """80 wide and 40 high, near the right edge: a square of 100, in which it spans 80 columns and 40 rows, with colours kept."""
    picture = read(image=cut_out(tmp_path / "a.png", slice(10, 50), slice(120, 200)), share=0.8)
    assert picture.shape == (100, 100, 4)
    assert box(picture) == (30, 69, 10, 89)
    assert picture[30:70, 10, :3].tolist() == [[0, 0, 1]] * 40
    assert picture[35, 40].tolist() == [1, 0, 0, 1]


def test_a_square_smaller_than_the_picture_crops_it(tmp_path: Path) -> None:
    picture = read(image=cut_out(tmp_path / "a.png", slice(20, 60), slice(60, 100)), share=1)
    assert picture.shape == (40, 40, 4)
    assert picture[..., 3].min() == 1


def test_without_a_share_the_picture_stays_as_it_is(tmp_path: Path) -> None:
    picture = read(image=cut_out(tmp_path / "a.png", slice(20, 60), slice(60, 100)))
    assert picture.shape == (120, 200, 4)
    opaque = saved(tmp_path / "b.png", np.full((8, 9, 3), 255, np.uint8), "RGB")
    assert read(image=opaque)[..., 3].min() == 1


def test_a_mask_of_its_own_says_where_the_object_is(tmp_path: Path) -> None:
    """Of another size, in grey: white for the left half."""
    image = saved(tmp_path / "a.png", np.full((64, 64, 3), 100, np.uint8), "RGB")
    white = np.zeros((32, 32), np.uint8)
    white[:, :16] = 255
    picture = read(image=image, mask=saved(tmp_path / "m.png", white, "L"), share=1)
    assert picture.shape == (64, 64, 4)  # 64 high and 32 wide
    assert box(picture) == (0, 63, 16, 47)


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    """Orientation 6 of EXIF: the first row of the file is the right side."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    picture = read(image=str(tmp_path / "a.png"))
    assert picture.shape == (32, 16, 4)
    assert picture[:, -4:, :3].min() == 1
    assert picture[:, :-4, :3].max() == 0


def test_a_grey_picture_of_16_bits_keeps_its_greys(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    found = read(image=str(tmp_path / "a.png"))
    assert np.abs(found[..., :3].numpy() - grey[..., None] / 65535).max() <= 0.5 / 255
    assert found[..., 3].min() == 1


def test_a_large_picture_is_made_smaller_and_its_colours_do_not_mix_with_what_is_transparent(tmp_path: Path) -> None:
    pixels = np.zeros((1500, 5000, 4), np.uint8)
    pixels[:, 1000:4000] = 255, 0, 0, 255
    Image.fromarray(pixels).save(tmp_path / "a.png", compress_level=1)
    found = read(image=str(tmp_path / "a.png"))
    assert found.shape == (614, 2048, 4)
    assert found[..., 3].mean() == pytest.approx(0.6, abs=0.002)
    assert found[found[..., 3] > 0.1][:, 0].min() > 0.99


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, r"image: there is no file .*a\.png; give the path of a picture"),
        (lambda path: path.write_text("text"), r"image: .*a\.png cannot be read as a picture"),
        (
            lambda path: saved(path, np.full((64, 64, 3), 9, np.uint8), "RGB"),
            r"a\.png shows no background, .* or give a mask",
        ),
        (lambda path: saved(path, np.zeros((64, 64, 4), np.uint8), "RGBA"), r"a\.png shows no object"),
        (
            lambda path: Image.fromarray(np.zeros((64, 64), np.float32)).save(path, "TIFF"),
            r"image: .*a\.png holds floating-point numbers, .* save it with 8 or 16 bits",
        ),
        (lambda path: cut_out(path, slice(0, 10), slice(0, 31)), r"the object is only 31 pixels large; give .* it has 32"),
    ],
)
def test_a_picture_that_does_not_serve_is_refused_in_one_sentence(tmp_path: Path, make: object, said: str) -> None:
    make(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=said) as caught:
        read(image=str(tmp_path / "a.png"), share=0.8)
    assert "\n" not in str(caught.value)


def test_a_damaged_picture_and_an_empty_mask_name_their_file(tmp_path: Path) -> None:
    image = Path(cut_out(tmp_path / "a.png", slice(0, 40), slice(0, 40)))
    mask = saved(tmp_path / "m.png", np.zeros((4, 4), np.uint8), "L")
    with pytest.raises(ConfigError, match=r"mask: .*m\.png shows no object"):
        read(image=str(image), mask=mask, share=0.8)
    image.write_bytes(image.read_bytes()[:-60])
    with pytest.raises(ConfigError, match=r"image: .*a\.png cannot be read as a picture"):
        read(image=str(image))


def test_a_run_without_a_prompt_is_called_after_its_picture() -> None:
    parts = {"geometry": "image", "renderer": "plane", "losses": {"sds": {}}, "name": "mine"}
    assert RunConfig.model_validate(parts | {"image": "some/Teddy bear.png"}).subject == "Teddy bear"
    assert RunConfig.model_validate(parts | {"image": "a.png", "prompt": "a bear"}).subject == "a bear"
    assert RunConfig.model_validate(parts).subject == "mine"
