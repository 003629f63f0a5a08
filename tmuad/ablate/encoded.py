"""The text bank as a bank of vectors (Table VI, rows 1 to 4): a text's score is its cosine distance to the nearest one.

Stands in for the text encoders of the paper. `words` counts single words, so that like CLIP's vector it holds the gist of
the whole and neither order nor relation; `phrases` counts up to three words in a row, so that like T5's it knows which
number belongs to which class. Both weigh by rarity among the normal texts (tf-idf).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tmuad.ablate.captions import CaptionTask, text_of
from tmuad.ablate.variants import Encoded
from tmuad.config import Params
from tmuad.describe.description import ImageDescription
from tmuad.engine import ImageRef, map_images
from tmuad.segment.slots import scene_task

TOKEN = r"[^\s,;]+"  # a number, a class, a cell of the grid


def novelty(normal: Sequence[str], asked: Sequence[str], by: str) -> NDArray[np.float64]:
    """1 - cosine of each text of `asked` (n,) to the nearest of `normal`; 1 where they have no word in common."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    spans = (1, 3) if by == "phrases" else (1, 1)
    vectors = TfidfVectorizer(ngram_range=spans, token_pattern=TOKEN, lowercase=False)
    if not any(text.strip() for text in normal):
        return np.array([1.0 if text.strip() else 0.0 for text in asked])
    bank = vectors.fit_transform(normal)
    nearest = (vectors.transform(asked) @ bank.T).max(axis=1).toarray().ravel()  # rows have unit length, or are empty
    return np.asarray(1 - nearest)


def texts_of(
    encoded: Encoded, images: Sequence[ImageRef], descriptions: dict[str, ImageDescription], params: Params, unit: str
) -> list[str]:
    """The text of each image in the given construction."""
    if encoded.of == "classes":
        return [descriptions[ref.image_id].text for ref in images]
    texts = []
    for ref, record in zip(images, map_images(caption_task(params, unit), images, params.data), strict=True):
        if encoded.of == "image":
            texts.append(text_of(record, "image"))
            continue
        lines = text_of(record, "segments").split("\n")
        mine = sorted(lines[o.candidate] for o in descriptions[ref.image_id].objects if o.candidate >= 0)
        texts.append(", ".join(mine))
    return texts


def caption_task(params: Params, unit: str) -> CaptionTask:
    return CaptionTask(scene_task(params, unit))
