"""Whose word on an object's class counts: the classifier's where it is sure, else the segmenter's."""

import numpy as np

from tmuad.describe.classifier import settled

SAID, SEEN = ["nut", "bolt", "nut"], ["nut", "nut", "washer"]
SURE = np.array([0.5, 0.9, 0.89], dtype=np.float32)


def test_the_classifier_decides_from_its_confidence_on() -> None:
    assert settled(SAID, SURE, SEEN, 0.9 - 1e-6) == ["nut", "bolt", "washer"]


def test_at_zero_the_classifier_always_decides_as_in_the_paper() -> None:
    assert settled(SAID, SURE * 0, SEEN, 0.0) == SAID


def test_no_object_has_no_class() -> None:
    assert settled([], np.zeros(0, np.float32), [], 0.9) == []
