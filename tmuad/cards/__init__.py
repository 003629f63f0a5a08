"""Verdict cards: everything that was decided about one image and why, for people and for programs.

`difference` compares field by field, `card` gathers, `explain` makes cards of files, `terminal`, `pictures` and `page` show.
"""
