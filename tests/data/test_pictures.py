import numpy as np
import pytest
from PIL import Image

from kerasfer.data.listing import list_class_folders, list_pictures
from kerasfer.data.pictures import read_picture, resize
from kerasfer.errors import DataError


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_every_colour_space_becomes_rgb(tmp_path, mode):
    suffix = ".jpg" if mode in ("CMYK", "YCbCr") else ".png"
    path = tmp_path / f"grey{suffix}"
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 30), 153 * 257, "uint16"))
    else:
        image = Image.new("RGB", (30, 20), (153, 153, 153)).convert(mode, dither=0)
    image.save(path)
    picture = read_picture(path)
    assert picture.shape == (20, 30, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_allclose(picture, 255 if mode == "1" else 153, atol=2)


def test_transparency_is_laid_on_white(tmp_path):
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_picture(tmp_path / "clear.png") == 255).all()


def test_exif_orientation_turns_the_picture_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    Image.new("RGB", (30, 20)).save(tmp_path / "phone.jpg", exif=exif)
    assert read_picture(tmp_path / "phone.jpg").shape == (30, 20, 3)


def test_truncated_picture_names_the_file(tmp_path, draw):
    path = draw(tmp_path / "half.jpg")
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(
        DataError, match="half.jpg cannot be read as a picture: .*truncated"
    ) as raised:
        read_picture(path)
    assert "\n" not in str(raised.value)


def test_what_is_no_picture_names_the_file(tmp_path):
    (tmp_path / "page.png").write_text("<html>")
    with pytest.raises(DataError, match="page.png cannot be read"):
        read_picture(tmp_path / "page.png")
    with pytest.raises(DataError, match="none.png cannot be read"):
        read_picture(tmp_path / "none.png")


def test_tiny_picture_is_no_face(tmp_path, draw):
    path = draw(tmp_path / "icon.png", size=(48, 7))
    with pytest.raises(DataError, match="icon.png is too small to show a face: .* got 48 x 7"):
        read_picture(path)


def test_resize_averages_when_shrinking():
    checkerboard = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype("uint8")
    np.testing.assert_allclose(resize(checkerboard, 16), 127.5, atol=3)
    assert resize(checkerboard, 64) is checkerboard


def test_lists_leave_out_what_is_no_picture(tmp_path, tree):
    tree("happy/b.PNG", "happy/a.JPEG", "sad/x.jpg", ".cache/x.png", "__MACOSX/x.png")
    (tmp_path / "happy" / "Thumbs.db").touch()
    (tmp_path / "happy" / "._a.png").touch()
    assert list(list_class_folders(tmp_path)) == ["happy", "sad"]
    assert [path.name for path in list_pictures(tmp_path / "happy")] == ["a.JPEG", "b.PNG"]
