"""The gallery: every verdict with its pictures on one static page, to filter, sort and compare offline.

`pictures` makes the image files, `records` what the page knows of each image, `page` writes it all; `assets` is the page.
"""
