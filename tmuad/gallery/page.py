"""Writes the gallery's folder: the page with its script and style, data, and the pictures that are not there yet."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from tmuad.cache import write_atomic
from tmuad.errors import ArtifactError
from tmuad.gallery.records import Item, detail_scripts, index_script

ASSETS = ("index.html", "gallery.css", "gallery.js")
FOLDERS = ("thumbs", "images", "maps", "truth")


class Gallery:
    """A folder that pictures are put into one by one, and the page in the end.

    A picture that lies there with the same bytes is not written again; what no image needs any more goes with `finish`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kept: set[Path] = set()

    def put(self, folder: str, name: str, content: bytes) -> None:
        """Keep one picture. Raises ArtifactError where it cannot be written."""
        path = self.folder / folder / name
        self._kept.add(path)
        try:
            if not path.is_file() or path.stat().st_size != len(content) or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, content)
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be written ({error.strerror}); free some space") from None

    def finish(self, items: Sequence[Item]) -> Path:
        """Write the page of `items`, in their order, and remove what belongs to none; the path of the page."""
        for number, script in enumerate(detail_scripts(items)):
            self.put("details", f"{number}.js", script.encode())
        self.put(".", "data.js", index_script(items).encode())
        for name in ASSETS:
            self.put(".", name, (files("tmuad.gallery") / "assets" / name).read_bytes())
        for folder in (*FOLDERS, "details"):
            for path in (self.folder / folder).glob("*"):
                if path not in self._kept:
                    path.unlink()
        return self.folder / "index.html"


def write_gallery(folder: Path, items: Sequence[Item], pictures: Iterable[tuple[str, Mapping[str, bytes]]]) -> Path:
    """A whole gallery at once: `pictures` are (folder, {file name: content}). The path of its page."""
    gallery = Gallery(folder)
    for kind, contents in pictures:
        for name, content in contents.items():
            gallery.put(kind, name, content)
    return gallery.finish(items)
