"""Maps in folders like those of the images: test/good/000.npy for test/good/000.png."""

from pathlib import Path, PurePosixPath

from tmuad.errors import DataError
from tmuad.plug.adapters import Images, MethodResults, some
from tmuad.plug.maps import SUFFIXES, FileMaps


def read(folder: Path, images: Images, skip_unknown: bool = False) -> MethodResults:
    """The maps in `folder`, matched to images by relative path; what has not a map's suffix is passed over."""
    return MethodResults(FileMaps(match(folder, images, skip_unknown), images.max_pixels))


def match(folder: Path, images: Images, skip_unknown: bool = False) -> dict[str, Path]:
    """Image path -> file of its map.

    A map may be named with or without the suffix of its image: test/good/000.npy or test/good/000.png.npy.

    Raises:
        DataError: no map at all, a map of no image, two maps of one image, one map of two images, or a link that leads
            out of the folder.
    """
    stems: dict[str, list[str]] = {}
    for path in images.splits:
        stems.setdefault(str(PurePosixPath(path).with_suffix("")), []).append(path)
    home = folder.resolve()
    found: dict[str, Path] = {}
    unknown: list[str] = []
    for file in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
        name = file.relative_to(folder)
        if any(part.startswith(".") for part in name.parts):
            continue
        if not file.resolve().is_relative_to(home):
            raise DataError(f"{file}: a symbolic link out of the folder, to {file.resolve()}; put a copy in its place")
        key = name.with_suffix("").as_posix()
        owners = [key] if key in images.splits else stems.get(key, [])
        if len(owners) > 1:
            raise DataError(f"{file}: could belong to {' or '.join(owners)}; name it {owners[0]}{file.suffix}")
        if not owners:
            unknown.append(name.as_posix())
        elif owners[0] in found:
            raise DataError(f"{file} and {found[owners[0]]}: two maps of the image {owners[0]}; remove one of them")
        else:
            found[owners[0]] = file
    if not found:
        example = next(iter(images.of("test", "validation", "train")), "test/good/000.png")
        wanted = PurePosixPath(example).with_suffix(".npy")
        seen = f"; there is {some(unknown)}" if unknown else ""
        raise DataError(
            f"{folder}: no map ({', '.join(sorted(SUFFIXES))}) of an image of {images.unit}; "
            f"expected files such as {wanted}{seen}"
        )
    if unknown and not skip_unknown:
        raise DataError(
            f"{folder}: {len(unknown)} maps belong to no image of {images.unit}: {some(unknown)}; "
            "give the maps of this unit alone, or pass over the others with --skip-unknown"
        )
    return found
