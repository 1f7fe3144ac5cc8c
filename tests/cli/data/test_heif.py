"""HEIC, as phones save images: real files, made by libheif's own encoder. Needs the extra heif."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

pillow_heif = pytest.importorskip(
    "pillow_heif", reason="HEIC IS NOT TESTED: pip install -e '.[heif]' to run these"
)

from reroute_cli.console.errors import Failure  # noqa: E402
from reroute_cli.data import images  # noqa: E402
from reroute_cli.data.folders import SUFFIXES  # noqa: E402
from reroute_cli.data.images import begins_like_an_image, open_image  # noqa: E402


@pytest.fixture(autouse=True)
def _whole_files(monkeypatch):
    """Pillow as it is: lmms-eval, once imported, makes it take cut files for the whole process."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)


@pytest.fixture
def heic(tmp_path):
    """A function that writes a Pillow image as a HEIC file, and gives its path."""
    pillow_heif.register_heif_opener()

    def write(image, name="photo.heic"):
        image.save(tmp_path / name, format="HEIF", quality=-1, chroma="444")
        return str(tmp_path / name)

    return write


def difference(one, other):
    """The mean difference of two images, in levels of 255."""
    assert one.size == other.size
    return np.abs(np.asarray(one, float) - np.asarray(other, float)).mean()


def test_a_photograph_has_its_pixels(heic, drawn):
    """A lossless HEIC is its source, but for the rounding of its colours."""
    assert difference(open_image(heic(drawn((120, 80)))).pixels, drawn((120, 80))) < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_upright_once(heic, drawn, tmp_path, orientation):
    """Turned by the container and by its EXIF, as phones write it, it is what a PNG with this EXIF is."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    drawn((120, 80)).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as source:
        source.load()
        path = heic(source)
    data = Path(path).read_bytes()
    assert (b"irot" in data or b"imir" in data) is (orientation > 1)
    found = open_image(path).pixels
    assert difference(found, open_image(str(tmp_path / "a.png")).pixels) < 2


def test_what_is_transparent_is_white(heic, drawn):
    """As in every other format."""
    layer = drawn((64, 64)).convert("RGBA")
    layer.putalpha(0)
    assert np.asarray(open_image(heic(layer)).pixels).min() > 250


def test_a_sixteen_bit_photograph_is_eight_bit(tmp_path, drawn):
    """Ten bits a channel, as newer phones save, become eight."""
    wide = np.asarray(drawn((64, 48)), np.uint16) * 257
    pillow_heif.encode("RGB;16", (64, 48), wide.tobytes(), str(tmp_path / "a.heic"), quality=-1)
    assert difference(open_image(str(tmp_path / "a.heic")).pixels, drawn((64, 48))) < 3


def test_a_file_without_a_suffix_is_known_by_its_bytes(heic, drawn):
    """As in folders that are named after digests."""
    assert begins_like_an_image(heic(drawn((64, 64)), "photo"))


def test_the_decoder_s_suffixes_are_pictures():
    """All that pillow-heif itself calls HEIF."""
    pillow_heif.register_heif_opener()
    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name == "HEIF"}
    assert suffixes
    assert suffixes <= SUFFIXES


def test_avif_is_not_taken_for_heic(tmp_path, drawn):
    """Both have one container; Pillow itself reads AVIF."""
    drawn((64, 64)).save(tmp_path / "a.avif", quality=100)
    assert difference(open_image(str(tmp_path / "a.avif")).pixels, drawn((64, 64))) < 4


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.6, 0.9, 0.99])
def test_a_cut_file_is_one_sentence(heic, drawn, share):
    """Wherever a copy broke off."""
    data = Path(heic(drawn((224, 224)))).read_bytes()
    with pytest.raises(Failure, match=r"^'cut.heic' is damaged: .*save it anew$"):
        open_image("cut.heic", data[: max(24, int(len(data) * share))])


def test_damage_anywhere_is_a_picture_or_one_sentence(heic, drawn):
    """Bytes changed at random, 200 times: never another exception."""
    whole = Path(heic(drawn((64, 64)))).read_bytes()
    numbers = np.random.default_rng(0)
    sentences = set()
    for _ in range(200):
        data = bytearray(whole)
        for place in numbers.integers(12, len(data), 8):
            data[place] = numbers.integers(256)
        try:
            assert open_image("x.heic", bytes(data)).pixels.mode == "RGB"
        except Failure as error:
            sentences.add(str(error))
    assert sentences
    assert all("x.heic" in sentence and "\n" not in sentence for sentence in sentences)


def test_too_many_pixels_are_refused(heic, drawn, monkeypatch):
    """The bound of every other format."""
    path = heic(drawn((224, 224)))
    monkeypatch.setattr(images.Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(Failure, match="pixels: shrink it first"):
        open_image(path)


def test_a_long_strip_is_refused(heic):
    """The sides may be 1 to 200."""
    with pytest.raises(Failure, match="crop it"):
        open_image(heic(Image.new("RGB", (4000, 16))))


def test_ask_answers_about_a_photograph_of_a_phone(run, warm, heic, drawn):
    """The same answer as about the same image in another format."""
    path = heic(drawn())
    png = path.replace(".heic", ".png")
    open_image(path).pixels.save(png)
    first, second = (run("ask", one, "where is the cup?", "--json") for one in (path, png))
    assert json.loads(first.stdout)["answer"] == json.loads(second.stdout)["answer"] != ""
