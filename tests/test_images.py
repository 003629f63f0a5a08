"""Every kind of image file, healthy and damaged, through `read_image` and `read_mask`."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tmuad.data.images import image_shape, is_blank, read_image, read_mask, read_picture, resize, shrink_mask
from tmuad.errors import ImageError

LIMIT = 10_000_000


def photograph(height: int = 40, width: int = 56, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth, coloured and without symmetry, so that JPEG keeps it and a wrong turn shows."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    image = np.stack((200 * x + 30, 200 * y + 20, 120 * (x * y) + 60 + seed), axis=2)
    image[:6, :6] = (250, 10, 10)
    return image.astype(np.uint8)


def png(samples: NDArray[np.generic], bits: int, colour: int, *, height: int | None = None) -> bytes:
    """A PNG written by hand: Pillow writes no 16-bit colour. `colour` is the colour type of the specification."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    big = samples.astype(f">u{bits // 8}")
    rows = b"".join(b"\0" + row.tobytes() for row in big)
    header = struct.pack(">IIBBBBB", samples.shape[1], height or samples.shape[0], bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


# ---- kinds of images


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.TIFF", "a.PNG"])
def test_lossless_8_bit_rgb_comes_back_exactly(tmp_path: Path, name: str) -> None:
    image = photograph()
    assert np.array_equal(read_image(saved(tmp_path / name, Image.fromarray(image)), max_pixels=LIMIT), image)


def test_jpeg_comes_back_nearly(tmp_path: Path) -> None:
    image = photograph()
    image[:6, :6] = image[6, 6]
    path = saved(tmp_path / "a.jpeg", Image.fromarray(image), quality=95)
    assert np.abs(read_image(path, max_pixels=LIMIT).astype(int) - image).max() <= 12


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_colour_modes_are_what_pillow_makes_of_them(tmp_path: Path, mode: str) -> None:
    converted = Image.fromarray(photograph()).convert(mode)
    path = saved(tmp_path / "a.tif", converted)
    assert np.array_equal(read_image(path, max_pixels=LIMIT), np.asarray(converted.convert("RGB")))


def test_png_16_bit_grey_uses_the_full_range(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 20 * 30).reshape(20, 30).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(png(values, 16, 0))
    image = read_image(tmp_path / "a.png", max_pixels=LIMIT)
    assert np.array_equal(image, np.repeat((values // 256)[..., None], 3, axis=2))


@pytest.mark.parametrize("bits", [16, 12, 10])
@pytest.mark.parametrize("kind", ["png", "tif", "planar", "big-endian", "deflate"])
def test_16_bit_colour_at_any_significant_bits(tmp_path: Path, kind: str, bits: int) -> None:
    values = np.random.default_rng(1).integers(0, 2**bits, (20, 24, 3)).astype(np.uint16)
    values[0, 0] = 65535  # above the significant bits: white, not wrapped to black
    path = tmp_path / ("a.png" if kind == "png" else "a.tif")
    if kind == "png":
        path.write_bytes(png(values, 16, 2))
    elif kind == "planar":
        tifffile.imwrite(path, values.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    elif kind == "big-endian":
        tifffile.imwrite(path, values.astype(">u2"), photometric="rgb", byteorder=">")
    else:
        tifffile.imwrite(path, values, photometric="rgb", compression="zlib" if kind == "deflate" else None)
    picture = read_picture(path, max_pixels=LIMIT, bits=bits)
    assert picture.deep
    assert np.array_equal(picture.pixels, np.minimum(values // 2 ** (bits - 8), 255))


def test_16_bit_tiff_where_zero_is_white(tmp_path: Path) -> None:
    values = np.arange(20 * 24).reshape(20, 24).astype(np.uint16) * 100
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    assert np.array_equal(read_image(tmp_path / "a.tif", max_pixels=LIMIT)[..., 0], 255 - values // 256)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_tiff_of_0_to_1(tmp_path: Path, dtype: type) -> None:
    values = np.linspace(0, 1, 20 * 24 * 3).reshape(20, 24, 3).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    image = read_image(tmp_path / "a.tif", max_pixels=LIMIT)
    assert np.abs(image - values.astype(float) * 255).max() <= 0.51


@pytest.mark.parametrize("value", [255.0, -3.0, np.nan, np.inf])
def test_float_tiff_of_another_range_says_which(tmp_path: Path, value: float) -> None:
    values = np.zeros((20, 24), np.float32)
    values[3, 4] = value
    tifffile.imwrite(tmp_path / "a.tif", values)
    with pytest.raises(ImageError, match=r"a\.tif: float values from .* expected 0 to 1; divide"):
        read_image(tmp_path / "a.tif", max_pixels=LIMIT)


@pytest.mark.parametrize("dtype", [np.int16, np.uint32, np.int32])
def test_unsupported_pixel_type_says_what_to_save(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 24), dtype))
    with pytest.raises(ImageError, match=r"a\.tif: pixels of type .*; save it with 8 or 16 bits"):
        read_image(tmp_path / "a.tif", max_pixels=LIMIT)


def test_tiff_of_several_pages_is_refused_but_a_reduced_copy_is_not_a_page(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((3, 20, 24), np.uint8), photometric="minisblack")
    with pytest.raises(ImageError, match=r"stack\.tif: holds 3 pages; save each"):
        read_image(tmp_path / "stack.tif", max_pixels=LIMIT)
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as writer:
        writer.write(photograph(), photometric="rgb")
        writer.write(photograph()[::2, ::2].copy(), photometric="rgb", subfiletype=1)
    assert np.array_equal(read_image(tmp_path / "pyramid.tif", max_pixels=LIMIT), photograph())


def test_tiff_of_five_channels_is_refused(tmp_path: Path) -> None:
    samples = np.zeros((20, 24, 5), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageError, match=r"5 channels .*; save it as grey or RGB"):
        read_image(tmp_path / "a.tif", max_pixels=LIMIT)


def test_compressed_16_bit_tiff_that_nothing_here_decodes_says_how_to_save_it(tmp_path: Path) -> None:
    grey = np.arange(20 * 24).reshape(20, 24).astype(np.uint16)
    path = saved(tmp_path / "a.tif", Image.fromarray(grey), compression="tiff_lzw")
    try:
        assert np.array_equal(read_image(path, max_pixels=LIMIT)[..., 0], grey // 256)  # with the imagecodecs package
    except ImageError as error:
        assert "LZW" in str(error) and "deflate" in str(error)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P", "16 bit"])
def test_alpha_is_composited_on_white(tmp_path: Path, kind: str) -> None:
    rgba = np.zeros((20, 24, 4), np.uint8)
    rgba[:10, :, 3] = 255  # black above, transparent below
    path = tmp_path / "a.png"
    if kind == "16 bit":
        path.write_bytes(png(rgba.astype(np.uint16) * 257, 16, 6))
    elif kind == "P":
        indices = Image.fromarray((rgba[..., 3] // 255).astype(np.uint8)).convert("P")
        indices.putpalette([0] * 768)
        indices.save(path, transparency=0)
    else:
        Image.fromarray(rgba).convert(kind).save(path)
    image = read_image(path, max_pixels=LIMIT)
    assert (image[:10] == 0).all() and (image[10:] == 255).all()


def test_alpha_of_zeros_alone_is_dropped(tmp_path: Path) -> None:
    rgba = np.dstack((photograph(), np.zeros(photograph().shape[:2], np.uint8)))
    path = saved(tmp_path / "a.png", Image.fromarray(rgba))
    assert np.array_equal(read_image(path, max_pixels=LIMIT), photograph())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "16.tif"])
def test_exif_rotation(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "16.tif":
        values = photograph().astype(np.uint16) * 256
        tifffile.imwrite(path, values, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    else:
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(photograph()).save(path, exif=exif)
    expected = Image.fromarray(photograph())
    if suffix == "jpg":
        expected = Image.fromarray(np.asarray(Image.open(path)))
    exif = Image.Exif()
    exif[274] = orientation
    expected.info["exif"] = exif.tobytes()
    upright = np.asarray(ImageOps.exif_transpose(expected))
    picture = read_picture(path, max_pixels=LIMIT)
    assert np.array_equal(picture.pixels, upright)
    assert picture.shape == image_shape(path, max_pixels=LIMIT) == upright.shape[:2]


def test_the_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(photograph()).save(path, format="BMP")
    assert np.array_equal(read_image(path, max_pixels=LIMIT), photograph())


def test_path_with_spaces_and_non_ascii_letters(tmp_path: Path) -> None:
    folder = tmp_path / "Prüfung Nr 1 部品"
    folder.mkdir()
    for name in ("Größe 1.png", "Größe 2.tif"):
        path = saved(folder / name, Image.fromarray(photograph()))
        assert np.array_equal(read_image(path, max_pixels=LIMIT), photograph())


# ---- bad input


def test_truncated_image(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for name in ("a.png", "a.jpg", "a.bmp", "a.tif"):
        whole = saved(tmp_path / name, Image.fromarray(noise)).read_bytes()
        for share in (0.1, 0.5, 0.9):
            (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(ImageError, match=f"{name}: .*(damaged|truncated)"):
                read_image(tmp_path / name, max_pixels=LIMIT)


def test_truncated_16_bit_tiff(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 40), np.uint16))
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[: len(whole) - 500])
    with pytest.raises(ImageError, match=r"a\.tif: damaged or truncated"):
        read_image(tmp_path / "a.tif", max_pixels=LIMIT)


def test_zero_byte_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(ImageError, match=r"a\.png: the file is empty \(0 bytes\); copy it again or remove it"):
        read_image(tmp_path / "a.png", max_pixels=LIMIT)


def test_non_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not an image at all")
    with pytest.raises(ImageError, match=r"a\.png: not a PNG, JPEG, BMP or TIFF image, or damaged; convert or remove"):
        read_image(tmp_path / "a.png", max_pixels=LIMIT)


def test_other_image_format(tmp_path: Path) -> None:
    Image.fromarray(photograph()).save(tmp_path / "a.png", format="GIF")
    with pytest.raises(ImageError, match="not a PNG"):
        read_image(tmp_path / "a.png", max_pixels=LIMIT)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        read_image(tmp_path / "gone.png", max_pixels=LIMIT)
    with pytest.raises(ImageError, match="not a file; name an image"):
        read_image(tmp_path, max_pixels=LIMIT)


def test_1_x_1_image(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("RGB", (1, 1)))
    with pytest.raises(ImageError, match=r"a\.png: 1 x 1 pixels, at least 16 a side are needed; remove"):
        read_image(path, max_pixels=LIMIT)


def test_20000_x_20000_image_is_refused_by_its_header_without_a_warning(tmp_path: Path) -> None:
    """In a process of its own: the file holds one row, so decoding it would fail in another way and take 1.2 GB."""
    (tmp_path / "a.png").write_bytes(png(np.zeros((1, 20_000, 3), np.uint8), 8, 2, height=20_000))
    script = (
        "import sys; from pathlib import Path; from tmuad.data.images import read_image\n"
        "try: read_image(Path(sys.argv[1]), max_pixels=200_000_000)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    command = [sys.executable, "-W", "always", "-c", script, str(tmp_path / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "ImageError" in done.stdout
    assert "20000 x 20000 = 400,000,000 pixels, more than data.max_pixels = 200,000,000; shrink" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pillows_own_limit_neither_applies_nor_is_changed(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(photograph()))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # the picture has 2240: Pillow alone would refuse it
    assert np.array_equal(read_image(path, max_pixels=LIMIT), photograph())
    assert Image.MAX_IMAGE_PIXELS == 100
    assert not recwarn.list


def test_single_colour_and_fully_black_images_are_readable_and_blank(tmp_path: Path) -> None:
    for name, colour in (("grey.jpg", (90, 120, 33)), ("black.png", (0, 0, 0))):
        image = read_image(saved(tmp_path / name, Image.new("RGB", (64, 48), colour)), max_pixels=LIMIT)
        assert image.shape == (48, 64, 3) and is_blank(image)
    assert not is_blank(photograph())
    speck = np.zeros((64, 64, 3), np.uint8)
    speck[5, 5, 1] = 3
    assert not is_blank(speck)


# ---- speed and size


def test_a_large_jpeg_is_decoded_at_a_reduced_size_but_reports_its_own(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(photograph(600, 800)))
    picture = read_picture(path, max_pixels=LIMIT, at_least=150)
    assert picture.pixels.shape == (150, 200, 3)
    assert picture.shape == (600, 800)
    whole = resize(read_image(path, max_pixels=LIMIT), 64)
    assert np.abs(resize(picture.pixels, 64).astype(int) - whole)[4:, 4:].max() <= 8
    with pytest.raises(ImageError, match="800 x 600"):
        read_image(path, max_pixels=1000, at_least=150)


def test_resize_keeps_flat_colour_and_the_mean() -> None:
    flat = np.full((333, 500, 3), 77, np.uint8)
    assert (resize(flat, 64) == 77).all()
    image = photograph(333, 500)
    assert np.abs(resize(image, 64).mean(axis=(0, 1)) - image.mean(axis=(0, 1))).max() < 1
    assert resize(photograph(64, 64), 64).shape == (64, 64, 3)


# ---- masks


def shrink_slowly(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Reference: output pixel by output pixel."""

    def span(index: int, length: int) -> range:
        if length <= size:
            centre = int((index + 0.5) * length / size)
            return range(centre, centre + 1)
        return range(index * length // size, (index + 1) * length // size)

    out = np.zeros((size, size), np.bool_)
    for row in range(size):
        for column in range(size):
            out[row, column] = any(mask[y, x] for y in span(row, mask.shape[0]) for x in span(column, mask.shape[1]))
    return out


@settings(max_examples=40, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40))), st.integers(1, 24))
def test_shrink_mask_against_a_slow_reference(mask: NDArray[np.bool_], size: int) -> None:
    assert np.array_equal(shrink_mask(mask, size), shrink_slowly(mask, size))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.data())
def test_no_marked_pixel_vanishes(height: int, width: int, data: st.DataObject) -> None:
    mask = np.zeros((height, width), np.bool_)
    mask[data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))] = True
    assert shrink_mask(mask, 448).any()


def test_mask_is_the_union_of_all_files_and_any_nonzero_value_counts(tmp_path: Path) -> None:
    left, right = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint16)
    left[:, :8], right[:, 56:] = 1, 1  # labels as small as they get, in 8 and in 16 bit
    paths = [saved(tmp_path / "000.png", Image.fromarray(left)), tmp_path / "001.png"]
    paths[1].write_bytes(png(right, 16, 0))
    mask = read_mask(paths, (64, 64), 64)
    assert mask[:, :8].all() and mask[:, 56:].all() and not mask[:, 8:56].any()
    assert not read_mask([], (64, 64), 64).any()


def test_mask_drawn_on_a_transparent_ground(tmp_path: Path) -> None:
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[:8, :8] = (255, 0, 0, 255)
    mask = read_mask([saved(tmp_path / "a.png", Image.fromarray(rgba))], (64, 64), 64)
    assert mask[:8, :8].all() and mask.sum() == 64


def test_jpeg_mask_does_not_mark_its_noise(tmp_path: Path) -> None:
    grey = np.zeros((64, 64), np.uint8)
    grey[20:40, 20:40] = 255
    mask = read_mask([saved(tmp_path / "a.jpg", Image.fromarray(grey), quality=60)], (64, 64), 64)
    assert not mask[:16].any() and mask[24:36, 24:36].all()


def test_mask_of_another_size(tmp_path: Path) -> None:
    path = saved(tmp_path / "a_mask.png", Image.new("L", (30, 20)))
    with pytest.raises(ImageError, match=r"a_mask\.png: the mask has 30 x 20 pixels, its image 64 x 48 .*export"):
        read_mask([path], (48, 64), 448)


def test_damaged_mask_names_itself(tmp_path: Path) -> None:
    path = saved(tmp_path / "a_mask.png", Image.fromarray(photograph()))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match=r"a_mask\.png: damaged or truncated"):
        read_mask([path], photograph().shape[:2], 448)


# ---- anything at all


def _healthy() -> list[bytes]:
    image = Image.fromarray(photograph())
    files = []
    for form, options in (
        ("PNG", {}),
        ("JPEG", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}),
        ("JPEG", {"progressive": True}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
    ):
        stream = io.BytesIO()
        image.save(stream, format=form, **options)
        files.append(stream.getvalue())
    for mode in ("P", "1", "LA"):
        stream = io.BytesIO()
        image.convert(mode).save(stream, format="PNG")
        files.append(stream.getvalue())
    for values in (photograph().astype(np.uint16) * 200, photograph() / np.float32(255)):
        stream = io.BytesIO()
        tifffile.imwrite(stream, values, photometric="rgb")
        files.append(stream.getvalue())
    files.append(png(photograph().astype(np.uint16) * 200, 16, 2))
    return files


HEALTHY = _healthy()


def read_or_refuse(folder: Path, content: bytes) -> NDArray[np.uint8] | None:
    path = folder / "fuzz.bin"
    path.write_bytes(content)
    try:
        image = read_image(path, max_pixels=20_000, bits=12)
    except ImageError as error:
        assert str(error).startswith(str(path))
        return None
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and min(image.shape[:2]) >= 16
    return image


@pytest.mark.parametrize("content", HEALTHY)
def test_the_files_that_are_damaged_below_are_sound(tmp_path: Path, content: bytes) -> None:
    assert read_or_refuse(tmp_path, content) is not None


QUIET = pytest.mark.filterwarnings("ignore")  # pytest shows what Pillow remarks; tmuad hides it
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


MAGIC = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"BM", b"II*\0", b"MM\0*"]
SHARE = st.floats(0, 1, exclude_max=True)


@QUIET
@FUZZ
@given(st.binary(max_size=300), st.sampled_from(MAGIC))
def test_random_bytes_are_an_image_error(tmp_path: Path, content: bytes, magic: bytes) -> None:
    read_or_refuse(tmp_path, magic + content)


@QUIET
@FUZZ
@given(st.sampled_from(HEALTHY), SHARE, st.lists(st.tuples(SHARE, st.integers(0, 255))))
def test_mutated_and_cut_files_are_an_image_or_an_image_error(
    tmp_path: Path, whole: bytes, share: float, changes: list[tuple[float, int]]
) -> None:
    content = bytearray(whole)
    for place, value in changes:
        content[int(place * len(content))] = value
    read_or_refuse(tmp_path, bytes(content[: int(share * len(content)) + 1]))


@QUIET
@FUZZ
@given(st.sampled_from(HEALTHY), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=6))
def test_mutated_headers_are_an_image_or_an_image_error(
    tmp_path: Path, whole: bytes, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(whole)
    for place, value in changes:
        content[place % len(content)] = value
    read_or_refuse(tmp_path, bytes(content))
