"""Renews docs/gallery.jpg and docs/gallery-card.jpg from reports/gallery: `python docs/screenshots.py` (needs Chromium)."""

from pathlib import Path

from playwright.sync_api import sync_playwright

GALLERY = Path("reports/gallery/index.html")
CARD = "test/logical_anomalies/009.png"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


def main() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 760}, color_scheme="light")
        page.goto(GALLERY.resolve().as_uri())
        page.wait_for_load_state("networkidle")
        page.screenshot(path="docs/gallery.jpg", type="jpeg", quality=82)
        page.fill("#search", CARD)
        page.click(".tile")
        page.wait_for_selector("#card[data-ready]")
        page.wait_for_load_state("networkidle")
        page.screenshot(path="docs/gallery-card.jpg", type="jpeg", quality=82)
        browser.close()


if __name__ == "__main__":
    main()
