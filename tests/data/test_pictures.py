import numpy as np
import pytest
from PIL import Image

from kerasfer.data.listing import list_class_folders, list_pictures
from kerasfer.data.pictures import picture_size, read_picture, resize
from kerasfer.errors import DataError


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_every_color_space_becomes_rgb(tmp_path, mode):
    suffix = ".jpg" if mode in ("CMYK", "YCbCr") else ".png"
    path = tmp_path / f"gray{suffix}"
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


def test_the_error_for_an_invalid_picture_names_the_file(tmp_path):
    (tmp_path / "page.png").write_text("<html>")
    with pytest.raises(DataError, match="page.png cannot be read"):
        read_picture(tmp_path / "page.png")
    with pytest.raises(DataError, match="none.png cannot be read"):
        read_picture(tmp_path / "none.png")


def test_tiny_pictures_are_rejected(tmp_path, draw):
    path = draw(tmp_path / "icon.png", size=(48, 7))
    with pytest.raises(DataError, match="icon.png is too small to show a face: .* got 48 x 7"):
        read_picture(path)


def test_resize_averages_when_shrinking():
    checkerboard = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype("uint8")
    np.testing.assert_allclose(resize(checkerboard, 16), 127.5, atol=3)
    assert resize(checkerboard, 64) is checkerboard


def test_lists_contain_only_pictures(tmp_path, tree):
    tree("happy/b.PNG", "happy/a.JPEG", "sad/x.jpg", ".cache/x.png", "__MACOSX/x.png")
    (tmp_path / "happy" / "Thumbs.db").touch()
    (tmp_path / "happy" / "._a.png").touch()
    assert list(list_class_folders(tmp_path)) == ["happy", "sad"]
    assert [path.name for path in list_pictures(tmp_path / "happy")] == ["a.JPEG", "b.PNG"]


# Damaged and hostile files


def jpeg_with_exif(tmp_path, exif):
    path = tmp_path / "phone.jpg"
    Image.new("RGB", (30, 20), (9, 9, 9)).save(path, exif=exif)
    return path


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0xx",
        b"Exif\0\0",
    ],
)
def test_damaged_exif_is_ignored(tmp_path, exif):
    assert read_picture(jpeg_with_exif(tmp_path, b"Exif\0\0" + exif)).shape == (20, 30, 3)


def test_postscript_never_starts_ghostscript(tmp_path, monkeypatch):
    import subprocess

    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started a program"))
    path = tmp_path / "face.jpg"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 48\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(DataError, match="face.jpg cannot be read .*: it is a PostScript file"):
        read_picture(path)


@pytest.mark.parametrize("suffix", ["dds", "blp", "ico", "tga", "pcx", "psd"])
def test_only_listed_formats_are_decoded(tmp_path, suffix):
    path = tmp_path / f"face.{suffix}"
    if suffix in ("blp", "psd"):
        path.write_bytes({"blp": b"BLP2\1\0\0\0", "psd": b"8BPS\0\1"}[suffix] + bytes(200))
    else:
        Image.new("RGB", (48, 48)).save(path)
    with pytest.raises(DataError, match=r"none of the supported formats \(AVIF, BMP, GIF, JPEG"):
        read_picture(path)


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, AssertionError, KeyError])
def test_every_error_of_a_decoder_names_the_file(tmp_path, draw, monkeypatch, error):
    path = draw(tmp_path / "face.png")

    def fail(self):
        raise error("broken")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(DataError, match="face.png cannot be read as a picture"):
        read_picture(path)


@pytest.mark.timeout(20)
def test_only_regular_files_are_read(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.jpg", "zero.png"):
        with pytest.raises(DataError, match=f"{name} cannot be read .*: it is not a regular file"):
            read_picture(tmp_path / name)
        assert picture_size(tmp_path / name) is None
    with pytest.raises(DataError, match="folder.png cannot be read"):
        read_picture(tmp_path / "folder.png")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture. HEIC is unsupported, so convert"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2", "a video, of which `kerasfer video`"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_lookalikes_are_recognized(tmp_path, content, what):
    (tmp_path / "face.jpg").write_bytes(content + bytes(50))
    with pytest.raises(DataError, match=what):
        read_picture(tmp_path / "face.jpg")


@pytest.mark.parametrize("name", ["a.avif", "a.gif", "a.jfif", "a.pgm", "a.ppm"])
def test_further_formats_are_read_and_listed(tmp_path, name):
    image = Image.new("L" if name.endswith("pgm") else "RGB", (40, 30), 128)
    image.save(tmp_path / name, format="JPEG" if name == "a.jfif" else None)
    assert list_pictures(tmp_path) == [tmp_path / name]
    assert read_picture(tmp_path / name).shape == (30, 40, 3)


def test_names_that_are_not_utf8_stand_in_messages(tmp_path):
    import os

    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(path, "wb") as file:
        file.write(b"no picture")
    with pytest.raises(DataError) as raised:
        read_picture(os.fsdecode(path))
    assert "caf\\xe9.png cannot be read" in str(raised.value)
    str(raised.value).encode("utf-8")


# Depth


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.linspace(0, 1, 400, dtype="float32"), np.linspace(0, 255, 400)),  # shares
        (np.linspace(0, 255, 400, dtype="float32"), np.linspace(0, 255, 400)),
        (np.linspace(0, 65535, 400).astype("uint16"), np.linspace(0, 255, 400)),
        (np.linspace(0, 4095, 400).astype("uint16"), np.linspace(0, 255, 400)),  # 12 bits
        (np.linspace(0, 1023, 400).astype("uint16"), np.linspace(0, 255, 400)),  # 10 bits
        (np.zeros(400, "float32"), np.zeros(400)),
    ],
)
def test_deep_grays_are_scaled_to_8_bits(tmp_path, values, expected):
    Image.fromarray(values.reshape(20, 20)).save(tmp_path / "deep.tif")
    picture = read_picture(tmp_path / "deep.tif")
    np.testing.assert_allclose(picture[..., 0].ravel(), expected, atol=1)


@pytest.mark.parametrize("values", [[-1, 1], [0, 1e9], [0, np.nan]])
def test_other_gray_values_are_refused(tmp_path, values):
    gray = np.resize(np.array(values, "float32"), (20, 20))
    Image.fromarray(gray).save(tmp_path / "odd.tif")
    with pytest.raises(DataError, match=r"gray values must be in \[0, 1\], \[0, 255\] or"):
        read_picture(tmp_path / "odd.tif")


def test_dark_16_bit_colors_are_refused(tmp_path):
    """Pillow keeps the upper 8 bits, so 12-bit colors would be black."""
    import struct
    import zlib

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    def png(value):
        row = b"\0" + struct.pack(">3H", value, value, value) * 20
        header = struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0)
        parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(row * 20)), chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)

    (tmp_path / "dark.png").write_bytes(png(4000))
    with pytest.raises(DataError, match="16 bits and are all below 4096 of 65535"):
        read_picture(tmp_path / "dark.png")
    (tmp_path / "bright.png").write_bytes(png(51400))
    assert (read_picture(tmp_path / "bright.png") == 200).all()


# Large pictures


def test_a_large_picture_is_shrunk_while_it_is_read(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 1200).astype("uint8"), (800, 1))
    for name in ("large.jpg", "large.png"):
        Image.fromarray(ramp).save(tmp_path / name, quality=95)
        small = read_picture(tmp_path / name, shortest=100)
        assert small.shape == (100, 150, 3)
        np.testing.assert_allclose(small[50, :, 0], np.linspace(0, 255, 150), atol=4)
        assert read_picture(tmp_path / name, shortest=500).shape == (800, 1200, 3)
    assert picture_size(tmp_path / "large.jpg") == (1200, 800)
