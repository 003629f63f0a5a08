"""The text bank as a bank of vectors (Table VI, rows 1 to 4): a text's score is its cosine distance to the nearest one.

`clip` and `t5` are the encoders of the paper, and `told_by: vlm` its texts; see tmuad/encode/texts.py and vlm_captions.py.
Without models, `words` and `phrases` stand in for the encoders. `words` counts single words, so that like CLIP's vector it
holds the gist of the whole and neither order nor relation; `phrases` counts up to three words in a row, so that like T5's it
knows which number belongs to which class. Both weigh by rarity among the normal texts (tf-idf).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tmuad.ablate.captions import CaptionTask
from tmuad.ablate.variants import Encoded
from tmuad.ablate.vlm_captions import VlmCaptionTask
from tmuad.cache import open_cache, unpacked_text
from tmuad.config import Params
from tmuad.describe.description import ImageDescription
from tmuad.engine import ImageRef, map_images
from tmuad.segment.slots import scene_task

TOKEN = r"[^\s,;]+"  # a number, a class, a cell of the grid


def novelties(encoded: Encoded, normal: Sequence[str], asked: Sequence[str], params: Params) -> NDArray[np.float64]:
    """1 - cosine of each text of `asked` (n,) to the nearest of `normal`, under the encoder that `encoded` names."""
    if encoded.by in ("words", "phrases"):
        return novelty(normal, asked, encoded.by)
    if not normal:
        return np.ones(len(asked))
    from tmuad.banks.centroids import nearest
    from tmuad.encode.texts import ClipText, T5Text, TextEncoder, text_vectors

    encoder: TextEncoder = T5Text(params.texts.t5, params.compute)
    if encoded.by == "clip":
        encoder = ClipText(params.encode.clip, params.compute)
    vectors = text_vectors([*normal, *asked], encoder, open_cache(params.data.cache), params.texts.batch)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(nearest(unit[len(normal) :], unit[: len(normal)])[0], dtype=np.float64)


def novelty(normal: Sequence[str], asked: Sequence[str], by: str) -> NDArray[np.float64]:
    """The same by tf-idf; 1 where two texts have no word in common."""
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
    task = caption_task(encoded, params, unit)
    if task is None:
        return [descriptions[ref.image_id].text for ref in images]
    texts = []
    for ref, record in zip(images, map_images(task, images, params.data), strict=True):
        if encoded.of == "image":
            texts.append(unpacked_text(record["image"]))
            continue
        lines = unpacked_text(record["segments"]).split("\n")
        mine = sorted(lines[o.candidate] for o in descriptions[ref.image_id].objects if o.candidate >= 0)
        texts.append(", ".join(mine))
    return texts


def caption_task(encoded: Encoded, params: Params, unit: str) -> CaptionTask | VlmCaptionTask | None:
    """What writes the texts; nothing where they are those of the descriptions (Alg. 1)."""
    if encoded.of == "classes":
        return None
    if encoded.told_by == "vlm":
        return VlmCaptionTask.of_unit(encoded.of, params, unit)
    return CaptionTask(scene_task(params, unit))
