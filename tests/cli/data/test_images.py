"""Pictures of every kind: what the model sees, and the sentence for what is no picture."""

import hashlib
import os
import struct
import sys
import tempfile
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from reroute_cli.console.errors import Failure
from reroute_cli.data.images import as_text, digest_of, open_image


def pixels(path):
    """The opened picture as an array (H, W, 3)."""
    picture = open_image(str(path)).pixels
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


def png(path, header, *rows, **chunks):
    """Write a PNG by hand: width, height, bits, colour type, rows of bytes, more chunks before the pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0))
    more = b"".join(chunk(kind.encode(), data) for kind, data in chunks.items())
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    path.write_bytes(start + more + pixels + chunk(b"IEND", b""))


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
    assert open_image(str(tmp_path / "turned.png")).size == (60, 40)


@pytest.mark.parametrize("suffix", ["tiff", "webp", "jpg", "avif"])
def test_every_format_is_turned_once(tmp_path, suffix):
    """Some decoders turn the pixels themselves: red stored on the left of a quarter turn ends on top."""
    stored = Image.new("RGB", (32, 16), "white")
    stored.paste((255, 0, 0), (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(tmp_path / f"turned.{suffix}", exif=exif)
    seen = pixels(tmp_path / f"turned.{suffix}")
    assert seen.shape == (32, 16, 3)
    assert np.abs(seen[4, 8] - [255, 0, 0]).max() < 9
    assert np.abs(seen[28, 8] - [255, 255, 255]).max() < 9


def test_an_orientation_beside_broken_tags_is_honoured(tmp_path, drawn):
    """What can be read of a damaged EXIF block counts: a quarter turn makes 30 x 20 to 20 x 30."""
    fine = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    broken = struct.pack(">HHII", 0x8769, 4, 1, 0xFFFFFF00)  # the EXIF part lies beyond the end
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + fine + broken + b"\0\0\0\0"
    drawn((30, 20)).save(tmp_path / "x.jpg", exif=exif)
    assert pixels(tmp_path / "x.jpg").shape == (30, 20, 3)


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


def test_half_transparent_palette_entries_are_mixed_with_white(tmp_path):
    """Alpha 0, 128 and none of three palette entries: white, half way to white, the colour itself."""
    colours = bytes([10, 20, 30, 200, 100, 50, 1, 2, 3])
    png(tmp_path / "p.png", (3, 1, 8, 3), b"\0\1\2", PLTE=colours, tRNS=b"\x00\x80")
    half = [round(255 + (value - 255) * 128 / 255) for value in (200, 100, 50)]
    assert pixels(tmp_path / "p.png")[0].tolist() == [[255] * 3, half, [1, 2, 3]]


@pytest.mark.parametrize(
    ("header", "row", "key", "seen"),
    [
        ((2, 1, 8, 0), b"\x33\xaa", b"\x00\x33", [[255] * 3, [170] * 3]),
        ((3, 1, 16, 0), b"\x10\x00\x80\x80\x00\x00", b"\x10\x00", [[255] * 3, [128] * 3, [0] * 3]),
        ((2, 1, 8, 2), b"\x01\x02\x03\x04\x05\x06", b"\0\1\0\2\0\3", [[255] * 3, [4, 5, 6]]),
    ],
    ids=["grey", "deep grey", "colour"],
)
def test_a_transparent_colour_becomes_white(tmp_path, header, row, key, seen):
    """One grey or colour that a PNG declares transparent is white, all others are themselves."""
    png(tmp_path / "key.png", header, row, tRNS=key)
    assert pixels(tmp_path / "key.png")[0].tolist() == seen


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp", "ico"])
@pytest.mark.parametrize(("mode", "red"), [("RGBA", (255, 0, 0, 128)), ("LA", (0, 128))])
def test_alpha_is_mixed_with_white_in_every_format(tmp_path, suffix, mode, red):
    """Alpha 128 of 255 leaves 127 of the white behind it: red to 255, 127, 127, black to 127."""
    lossless = {"lossless": True, "exact": True} if suffix == "webp" else {}
    Image.new(mode, (16, 16), red).save(tmp_path / f"a.{suffix}", **lossless)
    assert pixels(tmp_path / f"a.{suffix}")[3, 5].tolist() == (
        [255, 127, 127] if mode == "RGBA" else [127] * 3
    )


@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
def test_inks_become_the_light_they_leave(tmp_path, suffix):
    """No ink, cyan, magenta and yellow, half black, in a printer's JPEG (stored inverted) and TIFF."""
    image = Image.new("CMYK", (4, 1))
    for place, ink in enumerate([(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 128)]):
        image.putpixel((place, 0), ink)
    exact = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    image.resize((64, 16), Image.Resampling.NEAREST).save(tmp_path / f"print.{suffix}", **exact)
    light = [[255, 255, 255], [0, 255, 255], [255, 0, 0], [127, 127, 127]]
    assert np.abs(pixels(tmp_path / f"print.{suffix}")[8, 8::16] - light).max() <= 2


def test_a_colour_profile_is_not_applied(tmp_path):
    """A profile that swaps red and green leaves the stored red red, as in the pictures models learn from."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    straight = profile.tobytes()
    swapped = straight.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    red = Image.new("RGB", (1, 1), (255, 0, 0))
    turned = ImageCms.profileToProfile(red, BytesIO(swapped), profile)
    assert turned is not None
    assert turned.getpixel((0, 0))[1] > 250  # the profile means what it says
    red.save(tmp_path / "red.png", icc_profile=swapped)
    assert pixels(tmp_path / "red.png")[0, 0].tolist() == [255, 0, 0]


def test_a_broken_colour_profile_is_no_reason_to_refuse(tmp_path):
    """A PNG whose profile is garbage still has pixels."""
    png(tmp_path / "icc.png", (1, 1, 8, 2), b"\x09\x08\x07", iCCP=b"x\0\0garbage")
    assert pixels(tmp_path / "icc.png")[0, 0].tolist() == [9, 8, 7]


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


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_of_either_byte_order_are_scaled(tmp_path, order):
    """A TIFF of 0, 257, 30000 and 65535 is 0, 1, 117 and 255, little or big end first."""
    Image.fromarray(np.array([[0, 257, 30000, 65535]], dtype=order)).save(tmp_path / "deep.tiff")
    assert pixels(tmp_path / "deep.tiff")[0, :, 1].tolist() == [0, 1, 117, 255]


@pytest.mark.parametrize(("top", "half"), [(65535, 32896), (4095, 2056)])
def test_the_declared_depth_of_a_grey_map_is_scaled(tmp_path, top, half):
    """A PGM says what white is: half of it is 128 and all of it 255."""
    values = half.to_bytes(2, "big") + top.to_bytes(2, "big")
    (tmp_path / "map.pgm").write_bytes(f"P5 2 1 {top}\n".encode() + values)
    assert pixels(tmp_path / "map.pgm")[0, :, 2].tolist() == [128, 255]


@pytest.mark.parametrize("channels", ["colour", "alpha"])
def test_sixteen_bit_colours_keep_their_high_bytes(tmp_path, channels):
    """0x80ff is 128; with half an alpha (0x8000), red is half way to white."""
    if channels == "colour":
        png(tmp_path / "deep.png", (1, 1, 16, 2), b"\x80\xff\x04\x00\xff\xff")
    else:
        png(tmp_path / "deep.png", (1, 1, 16, 6), b"\xff\xff\0\0\0\0\x80\x00")
    wanted = [128, 4, 255] if channels == "colour" else [255, 127, 127]
    assert pixels(tmp_path / "deep.png")[0, 0].tolist() == wanted


def test_deeper_grey_is_scaled_to_its_maximum(tmp_path):
    """32-bit values beyond 16 bits use their own range, others that of 16 bits; below zero is black."""
    deeper, deep = [-70000, 0, 65536, 131072], [-5, 0, 32768, 65535]
    Image.fromarray(np.array([deeper, deeper], dtype=np.int32)).save(tmp_path / "deeper.tiff")
    Image.fromarray(np.array([deep, deep], dtype=np.int32)).save(tmp_path / "deep.tiff")
    assert pixels(tmp_path / "deeper.tiff")[0, :, 0].tolist() == [0, 0, 128, 255]
    assert pixels(tmp_path / "deep.tiff")[0, :, 0].tolist() == [0, 0, 128, 255]


def test_black_float_grey_is_black(tmp_path):
    """A picture of zeros has no range to scale to."""
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(tmp_path / "float.tiff")
    assert pixels(tmp_path / "float.tiff").max() == 0


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


def test_a_camera_s_picture_with_a_preview_is_the_first(tmp_path):
    """Phones write two JPEGs into one .jpg (MPO); the second is a preview or a depth map."""
    first, second = Image.new("RGB", (16, 16), (255, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 255))
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[second])
    assert np.abs(pixels(tmp_path / "phone.jpg")[8, 8] - [255, 0, 0]).max() < 9


def test_a_broken_second_frame_does_not_matter(tmp_path, drawn):
    """A GIF that is cut in its second frame still shows the first."""
    first, second = drawn((80, 60)).convert("P"), drawn((80, 60)).rotate(90).convert("P")
    first.save(tmp_path / "one.gif")
    first.save(tmp_path / "two.gif", save_all=True, append_images=[second])
    whole = (tmp_path / "two.gif").read_bytes()
    (tmp_path / "cut.gif").write_bytes(whole[: len(whole) * 3 // 4])
    assert np.array_equal(pixels(tmp_path / "cut.gif"), pixels(tmp_path / "one.gif"))


def test_the_first_page_of_a_document_is_seen(tmp_path):
    """A TIFF of several pages is its first."""
    pages = [Image.new("L", (4, 4), value) for value in (40, 80, 120)]
    pages[0].save(tmp_path / "pages.tiff", save_all=True, append_images=pages[1:])
    assert pixels(tmp_path / "pages.tiff")[0, 0].tolist() == [40] * 3


@pytest.mark.parametrize(
    ("mode", "suffix", "value", "seen"),
    [
        ("1", "png", 1, [255, 255, 255]),
        ("L", "jpg", 77, [77, 77, 77]),
        ("P", "gif", 3, [30, 31, 32]),
        ("YCbCr", "tiff", (76, 85, 255), [254, 0, 0]),
        ("LAB", "tiff", (255, 128, 128), [255, 255, 255]),
        ("RGB", "bmp", (1, 2, 3), [1, 2, 3]),
        ("RGB", "ppm", (1, 2, 3), [1, 2, 3]),
        ("RGB", "jp2", (1, 2, 3), [1, 2, 3]),
    ],
)
def test_every_mode_becomes_rgb(tmp_path, mode, suffix, value, seen):
    """Whatever colour space a file has, its colour comes out, within one step."""
    image = Image.new(mode, (12, 10), value)
    if mode == "P":
        image.putpalette(
            [part for index in range(256) for part in (index * 10 % 256, index * 10 % 256 + 1, 32)]
        )
    image.save(tmp_path / f"x.{suffix}")
    assert np.abs(pixels(tmp_path / f"x.{suffix}")[5, 5] - seen).max() <= 1


def test_the_content_counts_not_the_suffix(tmp_path):
    """A PNG that is called .jpg, or nothing at all, is read as the PNG it is."""
    for name in ("x.jpg", "x"):
        Image.new("RGB", (2, 2), (1, 2, 3)).save(tmp_path / name, "PNG")
        assert pixels(tmp_path / name)[0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("missing.png", None, "does not exist"),
        ("empty.png", b"", "is empty"),
        ("text.png", b"no picture at all", "not an image in a format"),
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
        open_image(str(path))
    assert name in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tiff", "webp"])
def test_a_truncated_picture_is_refused(tmp_path, drawn, suffix):
    """Half a file is damaged, in every format, and never half a picture."""
    path = tmp_path / f"half.{suffix}"
    drawn((200, 200)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Failure, match=f"half.{suffix}"):
        open_image(str(path))


def test_a_folder_a_pipe_and_an_address_are_refused(tmp_path):
    """What is no regular file is named as what it is; a pipe does not hang the program."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "x.png").mkdir()
    for path, word in (
        (tmp_path / "x.png", "is a folder"),
        (tmp_path / "pipe.png", "is not an ordinary file"),
        ("https://x/y.png", "is an address"),
    ):
        with pytest.raises(Failure, match=word):
            open_image(str(path))


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("n" * 300 + ".png", "can't be read"),
        ("a\0.png", "does not exist"),
        ("file/x.png", "does not exist"),
        ("loop.png", "can't be read"),
        ("nowhere.png", "does not exist"),
    ],
    ids=["300 letters", "zero byte", "below a file", "link to itself", "link to nothing"],
)
def test_names_that_lead_to_no_file_are_failures(tmp_path, name, word):
    """Whatever the system says to a name, it is one sentence that holds the name."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "nowhere.png").symlink_to("gone.png")
    with pytest.raises(Failure, match=word) as caught:
        open_image(str(tmp_path / name))
    assert name in str(caught.value)


def test_a_picture_without_permission_is_said_to_have_none():
    """A file that this user may not read; root, who may read everything, becomes nobody for it."""
    with tempfile.TemporaryDirectory() as folder:
        path, other = Path(folder, "secret.png"), Path(folder, "open.png")
        for file in (path, other):
            Image.new("RGB", (4, 4)).save(file)
        Path(folder).chmod(0o755)
        path.chmod(0)
        open_image(str(other))  # what is imported on the way is readable for root only
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            with pytest.raises(Failure, match=r"secret.png' can't be read .*permissions"):
                open_image(str(path))
        finally:
            os.seteuid(user)


def test_a_name_that_is_no_utf_8_is_opened_and_told_as_text(tmp_path):
    """Bytes of a name that are no text are escaped in sentences, which go into records."""
    name = os.fsencode(tmp_path) + b"/\xff.png"
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "x.png")
    Path(os.fsdecode(name)).write_bytes((tmp_path / "x.png").read_bytes())
    assert pixels(os.fsdecode(name))[0, 0].tolist() == [1, 2, 3]
    with pytest.raises(Failure, match=r"udcff\.pngx' does not exist") as caught:
        open_image(os.fsdecode(name) + "x")
    str(caught.value).encode("utf-8")


def test_a_path_as_text_is_itself_but_for_bytes_that_are_none():
    """Letters, spaces and emoji stay; half characters become escapes."""
    assert as_text("/ä b/😀.png") == "/ä b/😀.png"
    assert as_text("\udcff\ud800") == "\\udcff\\ud800"


def test_a_decompression_bomb_is_refused(tmp_path):
    """A small file of 100 million pixels is not unpacked."""
    Image.new("1", (10000, 10000)).save(tmp_path / "bomb.png")
    with pytest.raises(Failure, match=r"bomb\.png' has more than 89 million pixels"):
        open_image(str(tmp_path / "bomb.png"))


def test_a_file_that_declares_a_billion_pixels_is_refused(tmp_path):
    """40000 x 25000 in a header are enough: no pixel is waited for."""
    png(tmp_path / "huge.png", (40000, 25000, 8, 0))
    with pytest.raises(Failure, match="million pixels"):
        open_image(str(tmp_path / "huge.png"))


def test_the_limit_itself_is_allowed(tmp_path, monkeypatch):
    """1000 pixels of 1000 open, 1001 don't."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for width in (143, 125):
        Image.new("L", (width, 8 if width == 125 else 7)).save(tmp_path / f"{width}.png")
    assert pixels(tmp_path / "125.png").shape == (8, 125, 3)
    with pytest.raises(Failure, match="million pixels"):
        open_image(str(tmp_path / "143.png"))


def test_threads_refuse_what_pillow_only_warns_of(tmp_path, monkeypatch):
    """In four threads at once every bomb is refused, every picture opens, and warnings stay as they were."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("L", (40, 40)).save(tmp_path / "bomb.png")
    Image.new("L", (20, 20), 9).save(tmp_path / "fine.png")

    def opened(name):
        try:
            return open_image(str(tmp_path / name)).pixels.getpixel((0, 0))
        except Failure as error:
            return "million pixels" in str(error)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = list(warnings.filters)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(opened, ["bomb.png", "fine.png"] * 100))
        assert warnings.filters == before
    assert found == [True, (9, 9, 9)] * 100


def test_threads_leave_warnings_alone(tmp_path, picture):
    """What becomes of warnings belongs to the whole process: a thread that opens a picture never sets it."""
    seen = []
    decode = Image.open

    def watched(*arguments, **named):
        seen.append(list(warnings.filters))
        return decode(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "open", watched)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(open_image, picture).result()
    assert seen == [warnings.filters]


def test_the_main_thread_keeps_pillow_s_warnings_to_itself(tmp_path, drawn):
    """A picture that Pillow warns of while opening it opens without a word."""
    drawn((30, 20)).save(tmp_path / "x.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff broken")
    first = Image.new("P", (4, 4))
    first.save(tmp_path / "bad.png")
    data = (tmp_path / "bad.png").read_bytes()
    control = struct.pack(">II", 0, 0)  # an animation of no frames: "Invalid APNG", says Pillow
    chunk = struct.pack(">I", 8) + b"acTL" + control + struct.pack(">I", zlib.crc32(b"acTL" + control))
    (tmp_path / "bad.png").write_bytes(data[:33] + chunk + data[33:])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with Image.open(tmp_path / "bad.png") as image:
            image.load()
        assert told  # so there is something to keep
        told.clear()
        pixels(tmp_path / "bad.png")
        assert not told


def test_a_picture_that_finds_no_room_is_a_failure(tmp_path, picture, monkeypatch):
    """Out of room while unpacking is not called damage."""

    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Image, "open", full)
    with pytest.raises(Failure, match="does not fit"):
        open_image(picture)


def test_the_longest_picture_is_200_times_as_long_as_wide(tmp_path):
    """1 x 200 opens, 1 x 201 does not, and neither does 402 x 2."""
    for size in ((1, 200), (1, 201), (402, 2)):
        Image.new("L", size).save(tmp_path / f"{size[0]}x{size[1]}.png")
    assert pixels(tmp_path / "1x200.png").shape == (200, 1, 3)
    for name in ("1x201", "402x2"):
        with pytest.raises(Failure, match="at most 200 : 1"):
            open_image(str(tmp_path / f"{name}.png"))


def test_a_file_of_more_than_a_gigabyte_is_not_read(tmp_path):
    """Its size is looked at before anything of it is."""
    with (tmp_path / "disk.png").open("wb") as file:
        file.truncate((1 << 30) + 1)  # a hole: it takes no room
    with pytest.raises(Failure, match="1073741825 bytes, more than the 1073741824"):
        open_image(str(tmp_path / "disk.png"))


def test_a_needle_is_refused(tmp_path):
    """Sides of 1 : 5000 would be scaled up to gigabytes by a processor."""
    Image.new("RGB", (1, 5000)).save(tmp_path / "needle.png")
    with pytest.raises(Failure, match="crop"):
        open_image(str(tmp_path / "needle.png"))


def test_one_pixel_is_a_picture(tmp_path):
    """1 x 1 opens."""
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "dot.png")
    assert pixels(tmp_path / "dot.png").tolist() == [[[1, 2, 3]]]


def test_the_digest_is_that_of_the_file(tmp_path, picture):
    """Two copies of a file have one digest, another picture another."""
    assert open_image(picture).digest == hashlib.sha256(Path(picture).read_bytes()).hexdigest()


def test_the_digest_can_be_had_without_decoding(tmp_path):
    """A damaged picture has the digest of its bytes; what is no file has none."""
    (tmp_path / "x.png").write_bytes(b"abc")  # the digest is FIPS 180-2's example
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_of(str(tmp_path / "x.png")) == (known, b"abc")
    with pytest.raises(Failure, match=r"gone\.png' does not exist"):
        digest_of(str(tmp_path / "gone.png"))


def test_without_a_limit_of_pillow_s_any_number_of_pixels_opens(picture, monkeypatch):
    """None is Pillow's way to say that there is no limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert pixels(picture).shape == (224, 224, 3)


@pytest.mark.parametrize("brands", [b"heicmif1heic", b"mif1heic", b"heixmif1", b"msf1hevc", b"mif1mif1"])
def test_heic_without_its_decoder_names_the_extra(tmp_path, monkeypatch, run, fails, brands):
    """What a phone saves is no unknown format: the sentence says what to install."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    box = b"ftyp" + brands[:4] + b"\0\0\0\0" + brands[4:]
    (tmp_path / "x.heic").write_bytes((len(box) + 4).to_bytes(4, "big") + box + b"\0" * 64)
    monkeypatch.chdir(tmp_path)
    fails(run("ask", "x.heic", "where?"), 4, "'x.heic' is HEIC: pip install 'reroute[heif]'")
