"""Writes the gallery's folder: the page with its script and style, data, and the pictures that are not there yet."""

from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path

from tmuad.cache import write_atomic
from tmuad.errors import ArtifactError
from tmuad.gallery.records import Item, Scripts

ASSETS = ("index.html", "gallery.css", "gallery.js")
FOLDERS = ("thumbs", "images", "maps", "truth", "details", "rows")


class Gallery:
    """A folder that pictures and images are put into one by one, and the page in the end.

    A file that lies there with the same bytes is not written again; what no image needs any more goes with `finish`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kept: dict[str, set[str]] = {name: set() for name in FOLDERS}
        self._scripts = Scripts(self._put_script)

    def put(self, folder: str, name: str, content: bytes) -> None:
        """Keep one picture. Raises ArtifactError where it cannot be written."""
        path = self.folder / folder / name
        self._kept.setdefault(folder, set()).add(name)
        try:
            if not path.is_file() or path.stat().st_size != len(content) or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, content)
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be written ({error.strerror}); free some space") from None

    def add(self, item: Item) -> None:
        """The next image of the page, which lists them in this order."""
        self._scripts.add(item)

    def finish(self) -> Path:
        """Write the page, and remove what belongs to none of its images; the path of the page."""
        self._scripts.finish()
        for name in ASSETS:
            self.put(".", name, (files("tmuad.gallery") / "assets" / name).read_bytes())
        for folder in FOLDERS:
            for path in (self.folder / folder).glob("*"):
                if path.name not in self._kept[folder]:
                    path.unlink()
        return self.folder / "index.html"

    def _put_script(self, name: str, content: str) -> None:
        folder, _, file = name.rpartition("/")
        self.put(folder or ".", file, content.encode())


def write_gallery(folder: Path, items: Iterable[Item], pictures: Iterable[tuple[str, Mapping[str, bytes]]]) -> Path:
    """A whole gallery at once: `pictures` are (folder, {file name: content}). The path of its page."""
    gallery = Gallery(folder)
    for kind, contents in pictures:
        for name, content in contents.items():
            gallery.put(kind, name, content)
    for item in items:
        gallery.add(item)
    return gallery.finish()
