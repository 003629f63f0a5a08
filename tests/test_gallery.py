"""The gallery: its files, and the page in a real headless Chromium: filters, sorting, card, keyboard, 5,000 images."""

import io
import json
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tmuad.cards.card import Card, Neighbour, Reason
from tmuad.cards.difference import Field
from tmuad.errors import ArtifactError
from tmuad.gallery.page import ASSETS, write_gallery
from tmuad.gallery.pictures import LEVELS, PictureTask, map_png, truth_png
from tmuad.gallery.records import CHUNK, Item, Scripts
from tmuad.report.overlay import CONTOUR, TRUTH

NASTY = "<img src=x onerror=\"document.title='broken'\"> \"винт\" & 'x' </script>"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
NO_REGION = np.zeros(0, np.uint32)


FIELDS = (
    Field("nut", "nut", "count", "1", "2", "2", True),
    Field("nut", "nut", "size", "1 %", "1 to 2 %", "1 %", False),
)


def reason(attribute, name, words="Words."):
    return Reason(name, name, attribute, "2", "1", 0.9, (10, 20, 60, 90), words, NO_REGION)


def item(
    number,
    kind="good",
    score=1.0,
    unit="demo.kit",
    reasons=(),
    defect="",
    name="",
    split="test",
    picture="p0",
    truth="",
):
    card = Card(
        unit, name or f"test/{kind}/{number:04}.png", f"{number:064x}", "anomalous" if score > 3 else "good", score, 3.0, 0.05,
        20, {"text": 0.5, "objects": 0.25, "patches": 0.25}, {"text": 1.0, "objects": 2.0, "patches": 0.1}, "1 nut",
        tuple(reasons), FIELDS,
        Neighbour("aa", "train/7.png", "2 nut"), Neighbour("bb", "train/8.png", "0.3 away"), 128,
    )  # fmt: skip
    return Item(card, kind, defect, split, picture, truth, "p1", "p2")


def pictures():
    task, rng = PictureTask(), np.random.default_rng(0)
    fused = np.zeros((128, 128), np.float32)
    fused[30:60, 30:60] = 5
    for number in range(3):
        record = task(rng.integers(0, 255, (128, 128, 3), dtype=np.uint8), {})
        yield "images", {f"p{number}.jpg": record["image"].tobytes()}
        yield "thumbs", {f"p{number}.jpg": record["thumb"].tobytes()}
        yield "maps", {f"p{number}.png": map_png(fused, 3.0)}
        yield "truth", {f"p{number}.png": truth_png(fused > 0)}


ITEMS = [
    item(0, "good", 0.5),
    item(1, "good", 4.0, reasons=[reason("size", "nut")], unit="other"),  # a false alarm
    item(
        2,
        "logical",
        9.0,
        reasons=[reason("missing", "nut", "Expected 2 nuts, found 1."), reason("extra", "bolt")],
        truth="p0",
    ),
    item(3, "logical", 1.5, defect="hidden"),  # missed
    item(4, "structural", 7.0, reasons=[reason("appearance", "")], defect=NASTY, name=NASTY, truth="p1"),
    item(5, "good", 2.9, split="validation"),
    item(6, "structural", 5.0, reasons=[reason("missing", NASTY, NASTY)]),
]


# --- files


def scripts_of(items):
    written = {}
    scripts = Scripts(written.__setitem__)
    for one in items:
        scripts.add(one)
    scripts.finish()
    return written


def index_script(items):
    return scripts_of(items)["data.js"]


def detail_scripts(items):
    written = scripts_of(items)
    return [written[f"details/{n}.js"] for n in range(sum(name.startswith("details/") for name in written))]


def data_of(script):
    return json.loads(re.fullmatch(r"window\.TMUAD_GALLERY = (.*);\n", script, re.DOTALL)[1])


def test_the_index_holds_what_filters_and_sorting_need():
    data = data_of(index_script(ITEMS))
    assert [unit["name"] for unit in data["units"]] == ["demo.kit", "other"] and data["units"][0]["threshold"] == 3.0
    assert [row[2] for row in data["rows"]] == [i.card.image for i in ITEMS]
    assert data["reasons"][data["rows"][2][8][0]] in (["missing", "nut"], ["extra", "bolt"])
    assert index_script(ITEMS).isascii()


def test_details_come_in_chunks_and_infinity_is_null():
    many = [item(i, score=float("inf") if i == 0 else 1.0) for i in range(CHUNK + 1)]
    scripts = detail_scripts(many)
    assert len(scripts) == 2 and scripts[1].startswith("TMUAD_GALLERY.detail(1, [")
    details = json.loads(scripts[1].removeprefix("TMUAD_GALLERY.detail(1, ").removesuffix(");\n"))
    assert len(details) == 1 and details[0]["neighbours"][1]["by"] == "patch"
    assert data_of(index_script(many))["rows"][0][7] is None


def test_maps_are_clear_where_nothing_is_and_outlined_above_the_threshold():
    fused = np.tile(np.linspace(0, 9, 120, dtype=np.float32), (120, 1))
    picture = Image.open(io.BytesIO(map_png(fused, 4.0)))
    assert picture.mode == "P" and picture.size == (120, 120) and len(picture.getcolors()) <= LEVELS + 2
    rgba = np.asarray(picture.convert("RGBA")).astype(int)
    assert rgba[60, 0, 3] == 0 and (np.diff(rgba[60, :50, 3]) >= 0).all() and rgba[60, -5, 3] == 255
    edge = np.flatnonzero((rgba[60, :, :3] == CONTOUR).all(axis=1))
    assert edge.size and fused[60, edge[0]] == pytest.approx(4.0, abs=0.1)
    plain = np.asarray(Image.open(io.BytesIO(map_png(fused, float("inf")))).convert("RGBA"))
    assert not (plain[..., :3] == CONTOUR).all(axis=2).any() and plain[0, -1, 3] == 255
    assert (np.asarray(Image.open(io.BytesIO(map_png(fused * 0, float("inf")))).convert("RGBA"))[..., 3] == 0).all()


def test_truth_is_an_outline():
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:50] = True
    rgba = np.asarray(Image.open(io.BytesIO(truth_png(mask))).convert("RGBA"))
    assert tuple(rgba[10, 30]) == (*TRUTH, 255) and rgba[30, 30, 3] == 0 and rgba[5, 5, 3] == 0


def test_equal_galleries_have_equal_bytes_and_nothing_stale_stays(tmp_path):
    for folder in ("a", "b"):
        write_gallery(tmp_path / folder, ITEMS, pictures())
    names = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert {str(name) for name in names} >= {*ASSETS, "data.js", "details/0.js", "maps/p0.png"}
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    (tmp_path / "a/images/old.jpg").write_bytes(b"x")
    (tmp_path / "a/maps/p1.png").write_bytes(b"torn")
    before = (tmp_path / "a/images/p0.jpg").stat().st_ino
    write_gallery(tmp_path / "a", ITEMS, pictures())
    assert sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()) == names
    assert (tmp_path / "a/images/p0.jpg").stat().st_ino == before
    assert (tmp_path / "a/maps/p1.png").read_bytes() == (tmp_path / "b/maps/p1.png").read_bytes()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        write_gallery(tmp_path / "file", ITEMS, pictures())


# --- the page


def find_chromium():
    found = "/usr/bin/chromium" if Path("/usr/bin/chromium").exists() else shutil.which("chromium")
    if found is None and not os.environ.get("CI"):
        pytest.skip("no Chromium: install the Debian package `chromium` to test the page in a browser")
    assert found, "CI is set and no Chromium is installed: apt-get install -y chromium"
    return found


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    executable = find_chromium()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield running
        running.close()


class Visit:
    """A page, everything it asked for, and everything that went wrong in it."""

    def __init__(self, browser, index, **options):
        self.page, self.index = browser.new_page(viewport={"width": 1280, "height": 800}, **options), index
        self.requests, self.errors = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("requestfailed", self._failed)
        self.root = index.parent.as_uri()
        self.load()

    def _failed(self, request):
        if request.failure != "net::ERR_ABORTED":  # a tile that left the page before its picture came
            self.errors.append(f"{request.url}: {request.failure}")

    def load(self):
        self.page.goto(self.index.as_uri())
        self.wait("document.querySelector('#count').textContent !== ''")

    def wait(self, condition):
        """Until the script `condition` holds. Playwright's own way to wait evaluates text, which the page's policy forbids."""
        deadline = time.monotonic() + 20
        while not self.page.evaluate(condition):
            assert time.monotonic() < deadline, condition
            self.page.wait_for_timeout(20)

    def names(self):
        ordered = "[...document.querySelectorAll('.tile')].sort((a, b) => a.dataset.place - b.dataset.place)"
        return [
            label.partition(": judged")[0] for label in self.page.evaluate(f"{ordered}.map(tile => tile.ariaLabel)")
        ]

    def numbers(self):
        return [int(re.search(r"(\d{4,})\.png", name)[1]) if name != NASTY else 4 for name in self.names()]

    def settle(self):
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def card(self):
        self.page.wait_for_selector("#card[data-ready]")
        return self.page.text_content("#card-title")

    def leave(self):
        self.check()
        self.page.close()

    def check(self):
        self.page.wait_for_load_state("networkidle")
        assert self.errors == []
        assert [url for url in self.requests if not url.startswith(self.root)] == []


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    return write_gallery(tmp_path_factory.mktemp("gallery ø #1"), ITEMS, pictures())


@pytest.fixture(scope="module")
def tab(browser, gallery):
    return Visit(browser, gallery)


@pytest.fixture
def visit(tab):
    """The page as it comes from disk; a tab of its own for every test would take half of the tests' time."""
    tab.page.goto("about:blank")
    tab.requests.clear()
    tab.errors.clear()
    tab.load()
    yield tab
    tab.check()


def test_all_images_are_shown_highest_score_first(visit):
    assert visit.numbers() == [2, 4, 6, 1, 5, 3, 0]
    assert "7 images of 7, 2 wrong verdicts" in visit.page.text_content("#count")
    assert visit.page.title() == "tmuad gallery"


@pytest.mark.parametrize(
    ("clicks", "expected"),
    [
        (["#kind [data-value='1']"], [2, 3]),
        (["#verdict [data-value='1']"], [2, 4, 6, 1]),
        (["#verdict [data-value='0']", "#kind [data-value='1']"], [3]),
        (["#wrong"], [1, 3]),
        (["#wrong", "#wrong"], [2, 4, 6, 1, 5, 3, 0]),
        (["#wrong", "#kind [data-value='0']", "#reset"], [2, 4, 6, 1, 5, 3, 0]),
    ],
)
def test_chips_filter(visit, clicks, expected):
    for selector in clicks:
        visit.page.click(selector)
    assert visit.numbers() == expected


@pytest.mark.parametrize(
    ("select", "label", "expected"),
    [
        ("#unit", "other", [1]),
        ("#reason", "missing: nut (1)", [2]),
        ("#reason", "appearance (1)", [4]),
        ("#reason", f"missing: {NASTY} (1)", [6]),
        ("#split", "held out", [5]),
        ("#sort", "score, lowest first", [0, 3, 5, 1, 6, 4, 2]),
        ("#sort", "nearest to the threshold", [5, 1, 3, 6, 0, 4, 2]),
        ("#sort", "name", [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_selects_filter_and_sort(visit, select, label, expected):
    visit.page.select_option(select, label=label)
    assert visit.numbers() == expected


def test_search_finds_names_and_defects_and_says_when_nothing_is_left(visit):
    visit.page.fill("#search", "HIDDEN")
    assert visit.numbers() == [3]
    visit.page.fill("#search", "ВИНТ")
    assert visit.numbers() == [4]
    visit.page.fill("#search", "no such thing")
    assert visit.page.is_visible("#empty") and visit.names() == []
    visit.page.click("#empty-reset")
    assert len(visit.names()) == 7


def test_the_card_shows_four_pictures_reasons_shares_and_differences(visit):
    visit.page.click(".tile[data-place='0']")
    assert visit.card() == "test/logical/0002.png"
    captions = visit.page.locator("#panels figcaption").all_text_contents()
    assert [c.split(";")[0].split(",")[0] for c in captions[:3]] == ["image", "ground truth", "anomaly map"]
    assert captions[3].startswith("nearest normal by text: train/7.png")
    loaded = (
        "[...document.querySelectorAll('#panels img')].every(image => image.complete && image.naturalWidth === 128)"
    )
    visit.wait(loaded)
    assert visit.page.locator("#panels img").count() == 6  # photograph three times, truth, map, neighbour
    assert visit.page.locator("#reasons li").all_text_contents() == ["1Expected 2 nuts, found 1.", "2Words."]
    assert visit.page.locator("svg .region").count() == 2
    assert visit.page.locator("tr.outside").all_text_contents() == ["nutcount122"]
    assert visit.page.locator(".share").all_text_contents() == ["text50%", "objects25%", "patches25%"]
    assert "p = 0.05" in visit.page.text_content("#card-facts")
    visit.page.hover("#reasons li:nth-child(2)")
    assert visit.page.get_attribute("svg .region.lit", "data-number") == "1"
    visit.page.click("#turn")
    visit.wait("document.querySelector('#neighbour').textContent.includes('by patch: train/8.png')")


def test_keys_move_open_step_and_close(visit):
    keys = visit.page.keyboard
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        keys.press(key)
    assert visit.page.evaluate("document.activeElement.dataset.place") == "1"
    keys.press("End")
    assert visit.page.evaluate("document.activeElement.dataset.place") == "6"
    keys.press("Home")
    keys.press("Enter")
    assert visit.card() == "test/logical/0002.png"
    keys.press("ArrowRight")
    visit.wait(f"document.querySelector('#card-title').textContent === {json.dumps(NASTY)}")
    keys.press("ArrowLeft")
    keys.press("ArrowLeft")  # the first one: nothing before it
    assert visit.card() == "test/logical/0002.png" and visit.page.text_content("#card-place") == "1 of 7"
    keys.press("n")
    visit.wait("document.querySelector('#neighbour').textContent.includes('by patch')")
    keys.press("Escape")
    assert not visit.page.is_visible("#card") and visit.page.evaluate("document.activeElement.dataset.place") == "0"
    keys.press("w")
    assert visit.numbers() == [1, 3]
    keys.press("/")
    keys.type("0003w")  # letters go into the field now
    assert visit.page.input_value("#search") == "0003w"
    keys.press("Escape")
    keys.press("?")
    assert visit.page.is_visible("#help")
    keys.press("Escape")
    assert not visit.page.is_visible("#help")


def test_heat_follows_slider_and_keys_in_grid_and_card(visit):
    def opacities(where):
        return set(visit.page.evaluate(f"[...document.querySelectorAll('{where} img.heat')].map(i => i.style.opacity)"))

    assert opacities("#grid") == {"0.6"}
    visit.page.fill("#opacity", "25")
    assert opacities("#grid") == {"0.25"} and visit.page.text_content("#opacity-value") == "25%"
    visit.page.click(".tile[data-place='0']")
    visit.card()
    assert opacities("#card") == {"0.25"}
    visit.page.keyboard.press("h")
    assert opacities("#card") == {"0"}
    visit.page.keyboard.press("h")
    visit.page.keyboard.press("+")
    assert opacities("#card") == opacities("#grid") == {"0.35"}


def test_text_from_the_data_stays_text(visit):
    visit.page.click(".tile[data-place='1']")
    assert visit.card() == NASTY
    assert visit.page.title() == "tmuad gallery"
    assert visit.page.locator("img[src='x']").count() == 0
    assert NASTY in visit.page.text_content("#card-facts")


def test_a_view_can_be_sent_by_its_address(browser, gallery, visit):
    visit.page.click("#wrong")
    visit.page.select_option("#sort", label="score, lowest first")
    visit.page.click(".tile[data-place='0']")
    visit.card()
    address = visit.page.url.partition("#")[2]
    assert "wrong=1" in address and "sort=low" in address and "open=" in address
    other = Visit(browser, gallery)
    other.page.evaluate(f"location.hash = '{address.replace('open=p0', '')}'")
    other.wait("document.querySelector('#wrong').getAttribute('aria-pressed') === 'true'")
    assert other.numbers() == [3, 1]
    other.page.evaluate("location.hash = '#sort=nonsense&unit=99'")
    other.wait("document.querySelector('#empty').hidden === false")
    other.leave()


def test_the_page_forbids_itself_every_other_address(browser, gallery):
    visit = Visit(browser, gallery)
    # Were the policy not there, this request would be made, and fail another way.
    blocked = visit.page.evaluate("""() => new Promise(done => {
      document.addEventListener('securitypolicyviolation', event => done(event.violatedDirective));
      fetch('https://example.org/').catch(() => 0);
    })""")
    assert blocked == "connect-src"
    visit.errors.clear()
    visit.leave()


def test_lost_details_are_said_and_break_nothing(browser, tmp_path):
    index = write_gallery(tmp_path / "g", ITEMS, pictures())
    (tmp_path / "g/details/0.js").unlink()
    visit = Visit(browser, index)
    visit.page.click(".tile[data-place='0']")
    visit.card()
    assert "could not be loaded" in visit.page.text_content("#reasons")
    visit.errors.clear()  # the browser reports the missing file
    visit.leave()


def test_an_empty_gallery_and_one_without_threshold(browser, tmp_path):
    empty = Visit(browser, write_gallery(tmp_path / "none", [], []))
    assert empty.page.is_visible("#empty")
    empty.page.keyboard.press("ArrowDown")
    empty.leave()
    from dataclasses import replace

    one = replace(ITEMS[0], card=replace(ITEMS[0].card, threshold=None, nearest_by_text=None, nearest_by_patch=None))
    visit = Visit(browser, write_gallery(tmp_path / "one", [one], pictures()), color_scheme="dark")
    visit.page.click(".tile")
    visit.card()
    assert "no threshold" in visit.page.text_content("#card-facts") and "none is known" in visit.page.text_content(
        "#panels"
    )
    visit.leave()


def test_rows_of_a_large_gallery_come_in_files(monkeypatch):
    few = scripts_of(ITEMS)
    monkeypatch.setattr("tmuad.gallery.records.ROWS", 3)
    many = scripts_of(ITEMS)
    rows = [r for n in range(3) for r in json.loads(many[f"rows/{n}.js"].partition(", ")[2].removesuffix(");\n"))]
    assert rows == data_of(few["data.js"])["rows"] and data_of(many["data.js"])["rows"] == []
    assert {n: v for n, v in data_of(many["data.js"]).items() if n not in ("count", "files", "rows")} == {
        n: v for n, v in data_of(few["data.js"]).items() if n != "rows"
    }
    assert (data_of(many["data.js"])["count"], data_of(many["data.js"])["files"]) == (7, 3)
    monkeypatch.setattr("tmuad.gallery.records.ROWS", 7)
    assert not any(name.startswith("rows/") for name in scripts_of(ITEMS))


def test_a_gallery_in_files_acts_as_one_in_one_piece(browser, tmp_path, monkeypatch):
    monkeypatch.setattr("tmuad.gallery.records.ROWS", 3)
    index = write_gallery(tmp_path / "g", ITEMS, pictures())
    visit = Visit(browser, index)
    visit.wait("document.querySelector('#count').textContent.startsWith('7 images of 7')")
    assert visit.numbers() == [2, 4, 6, 1, 5, 3, 0] and "loading" not in visit.page.text_content("#count")
    visit.page.click("#wrong")
    assert visit.numbers() == [1, 3]
    visit.page.select_option("#reason", label="size: nut (1)")
    assert visit.numbers() == [1]
    visit.page.click("#reset")
    visit.page.goto("about:blank")
    visit.page.goto(index.as_uri() + "#sort=low&open=p0")
    assert visit.card() == ITEMS[0].card.image  # the first of that picture
    visit.leave()
    (tmp_path / "g/rows/1.js").unlink()
    lost = Visit(browser, index)
    lost.wait("document.querySelector('#count').textContent.includes('rows/1.js could not be loaded')")
    lost.errors.clear()
    lost.leave()


def test_a_grid_taller_than_a_browser_allows(browser, tmp_path):
    many = [item(i, score=float(i % 1000) + i / 1e6, picture=f"p{i % 3}") for i in range(45_000)]
    visit = Visit(browser, write_gallery(tmp_path / "g", many, pictures()))
    visit.page.set_viewport_size({"width": 240, "height": 800})  # one column
    visit.wait("document.querySelector('#count').textContent.startsWith('45,000 images of 45,000')")
    visit.page.select_option("#sort", label="name")
    height = visit.page.evaluate("document.querySelector('#grid').offsetHeight")
    assert height == 8_000_000 < 45_000 * 200
    for key, place in (("End", 44_999), ("ArrowUp", 44_998), ("Home", 0), ("ArrowDown", 1)):
        visit.page.keyboard.press(key)
        visit.settle()
        focused = "document.activeElement"
        assert visit.page.evaluate(f"{focused}.dataset.place") == str(place)
        box = visit.page.evaluate(
            f"(() => {{ const b = {focused}.getBoundingClientRect(); return [b.top, b.bottom]; }})()"
        )
        assert box[1] > 0 and box[0] < 800, (key, box)
    visit.page.evaluate("document.querySelector('#scroller').scrollTop = 4e6")
    visit.settle()
    places = visit.page.evaluate("[...document.querySelectorAll('.tile')].map(tile => Number(tile.dataset.place))")
    assert 21_000 < min(places) < max(places) < 24_000 and visit.numbers() == sorted(places)
    visit.leave()


def test_five_thousand_images_are_usable(browser, tmp_path):
    rng = np.random.default_rng(0)
    kinds = ("good", "logical", "structural")
    many = [
        item(
            i, kinds[i % 3], float(rng.gamma(2, 1.5)), f"demo.unit-{i % 4}", picture=f"p{i % 3}",
            reasons=[reason(("missing", "extra", "size")[i % 3], f"class-{j}") for j in range(i % 4)],
        )
        for i in range(5000)
    ]  # fmt: skip
    visit = Visit(browser, write_gallery(tmp_path / "g", many, pictures()))
    assert "5,000 images" in visit.page.text_content("#count")
    assert visit.page.locator(".tile").count() < 120  # only what is in view, and a little more
    pictures_asked = {url for url in visit.requests if "/thumbs/" in url}
    assert pictures_asked
    visit.page.evaluate("""() => {
      document.querySelector('#wrong').click();
      document.querySelector("#kind [data-value='1']").click();
      document.querySelector('#sort').value = 'near';
      document.querySelector('#sort').dispatchEvent(new Event('change'));
    }""")
    visit.settle()
    filtered = int(visit.page.text_content("#count").split(" images")[0].replace(",", ""))
    assert 0 < filtered < 5000
    visit.page.click("#reset")
    visit.page.keyboard.press("End")
    visit.settle()
    assert visit.page.evaluate("document.activeElement.dataset.place") == "4999"
    assert visit.page.get_attribute(".tile[data-place='4999']", "aria-setsize") == "5000"
    visit.page.keyboard.press("Enter")
    lowest = min(many, key=lambda one: one.card.score)
    assert visit.card() == lowest.card.image
    ordered = "[...document.querySelectorAll('.tile')].sort((a, b) => a.dataset.place - b.dataset.place)"
    scores = visit.page.evaluate(f"{ordered}.map(tile => Number(tile.querySelector('.score').textContent))")
    assert scores == sorted(scores, reverse=True)
    visit.leave()
