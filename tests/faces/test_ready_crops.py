import pytest
from PIL import Image

from kerasfer.faces.ready_crops import looks_like_crop


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((48, 48), True),
        ((100, 120), True),
        ((224, 224), True),
        ((60, 100), False),
        ((257, 257), False),
        ((640, 480), False),
    ],
)
def test_small_and_nearly_square_pictures_look_like_crops(tmp_path, size, expected):
    Image.new("RGB", size).save(tmp_path / "picture.png")
    assert looks_like_crop(tmp_path / "picture.png") is expected
    assert looks_like_crop(tmp_path / "picture.png") == looks_like_crop(
        str(tmp_path / "picture.png")
    )


def test_unreadable_files_do_not_look_like_crops(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    assert not looks_like_crop(tmp_path / "text.png")
    assert not looks_like_crop(tmp_path / "missing.png")
