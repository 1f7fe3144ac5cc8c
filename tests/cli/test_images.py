"""Pictures of every kind: what the model sees, and the sentence for what is no picture."""

import os

import numpy as np
import pytest
from PIL import Image

from reroute_cli.errors import Failure
from reroute_cli.images import open_picture


def pixels(path):
    """The opened picture as an array (H, W, 3)."""
    picture = open_picture(str(path)).pixels
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


TURNED = {  # EXIF orientation -> what a camera stored, for the upright picture it means
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientation_is_honoured(tmp_path, drawn, orientation):
    """However a camera turned the stored pixels, the opened picture is the upright one."""
    upright = drawn((60, 40))
    turn = TURNED[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(pixels(tmp_path / "turned.png"), np.asarray(upright))


def test_damaged_exif_leaves_the_picture(tmp_path, drawn):
    """A broken EXIF block is no reason to refuse the pixels."""
    drawn((30, 20)).save(tmp_path / "x.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff broken")
    assert pixels(tmp_path / "x.jpg").shape == (20, 30, 3)


def test_transparency_becomes_white(tmp_path):
    """A half transparent red is half white; a fully transparent pixel is white whatever colour it hides."""
    image = Image.new("RGBA", (2, 1))
    image.putpixel((0, 0), (255, 0, 0, 128))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.save(tmp_path / "alpha.png")
    assert pixels(tmp_path / "alpha.png")[0].tolist() == [[255, 127, 127], [255, 255, 255]]


def test_a_transparent_palette_becomes_white(tmp_path):
    """Palette entries marked transparent are white, the others keep their colour."""
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "palette.png", transparency=0)
    assert pixels(tmp_path / "palette.png")[0].tolist() == [[255, 255, 255], [200, 100, 50]]


def test_cmyk_becomes_rgb(tmp_path):
    """A CMYK picture without ink is white, with full black ink black."""
    image = Image.new("CMYK", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.save(tmp_path / "print.tiff")
    assert pixels(tmp_path / "print.tiff")[0].tolist() == [[255] * 3, [0] * 3]


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    """16-bit grey 0, 32768 and 65535 become 0, 128 and 255."""
    values = np.array([[0, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert pixels(tmp_path / "deep.png")[0, :, 0].tolist() == [0, 128, 255]


def test_float_grey_is_scaled_to_its_maximum(tmp_path):
    """A float TIFF uses its whole range, and what is no number is black."""
    values = np.array([[0.0, 0.5, 1.0, np.nan]], dtype=np.float32)
    Image.fromarray(values).save(tmp_path / "float.tiff")
    assert pixels(tmp_path / "float.tiff")[0, :, 0].tolist() == [0, 128, 255, 0]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_is_its_first_frame(tmp_path, suffix):
    """Only the first frame of a moving picture is seen."""
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    path = tmp_path / f"moving.{suffix}"
    lossless = {"lossless": True} if suffix == "webp" else {}
    first.save(path, save_all=True, append_images=[second], duration=100, **lossless)
    assert pixels(path)[4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "YCbCr", "HSV", "LAB"])
def test_every_mode_becomes_rgb(tmp_path, drawn, mode):
    """Whatever colour space a file has, three bytes a pixel come out."""
    image = drawn((12, 10)).convert("RGB" if mode == "LAB" else mode)
    image = image if mode != "HSV" else image.convert("RGB")
    image.save(tmp_path / ("x.jpg" if mode == "YCbCr" else "x.png"))
    assert pixels(next(tmp_path.iterdir())).shape == (10, 12, 3)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("missing.png", None, "does not exist"),
        ("empty.png", b"", "empty"),
        ("text.png", b"no picture at all", "format"),
        ("page.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "format"),
        ("head.png", b"\x89PNG\r\n\x1a\n", "format"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(tmp_path, name, content, word):
    """Missing, empty, foreign and headless files: the sentence names the file and the reason."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Failure, match=word) as caught:
        open_picture(str(path))
    assert name in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tiff", "webp"])
def test_a_truncated_picture_is_refused(tmp_path, drawn, suffix):
    """Half a file is damaged, in every format, and never half a picture."""
    path = tmp_path / f"half.{suffix}"
    drawn((200, 200)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Failure, match=f"half.{suffix}"):
        open_picture(str(path))


def test_a_folder_a_pipe_and_an_address_are_refused(tmp_path):
    """What is no regular file is named as what it is; a pipe does not hang the program."""
    os.mkfifo(tmp_path / "pipe")
    for path, word in ((tmp_path, "folder"), (tmp_path / "pipe", "ordinary"), ("https://x/y.png", "address")):
        with pytest.raises(Failure, match=word):
            open_picture(str(path))


def test_a_decompression_bomb_is_refused(tmp_path):
    """A small file of 100 million pixels is not unpacked."""
    Image.new("1", (10000, 10000)).save(tmp_path / "bomb.png")
    with pytest.raises(Failure, match="million pixels"):
        open_picture(str(tmp_path / "bomb.png"))


def test_a_needle_is_refused(tmp_path):
    """Sides of 1 : 5000 would be scaled up to gigabytes by a processor."""
    Image.new("RGB", (1, 5000)).save(tmp_path / "needle.png")
    with pytest.raises(Failure, match="crop"):
        open_picture(str(tmp_path / "needle.png"))


def test_one_pixel_is_a_picture(tmp_path):
    """1 x 1 opens."""
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "dot.png")
    assert pixels(tmp_path / "dot.png").tolist() == [[[1, 2, 3]]]


def test_the_digest_is_that_of_the_file(tmp_path, picture):
    """Two copies of a file have one digest, another picture another."""
    import hashlib
    from pathlib import Path

    assert open_picture(picture).digest == hashlib.sha256(Path(picture).read_bytes()).hexdigest()
