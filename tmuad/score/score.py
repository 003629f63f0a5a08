"""One image against the three banks."""

from collections.abc import Sequence

from tmuad.banks.centroids import Matrix
from tmuad.banks.slots import AnyObjectBank
from tmuad.banks.text import TextBank
from tmuad.cache import Record
from tmuad.config import Params
from tmuad.describe.description import ImageDescription
from tmuad.encode.features import object_features
from tmuad.masks import Runs
from tmuad.score.banks import BankResult
from tmuad.score.text import find_differences


def score_image(
    description: ImageDescription,
    regions: Sequence[Runs],
    features: Record,
    text_bank: TextBank,
    object_bank: AnyObjectBank,
    patch_distance: Matrix,
    params: Params,
) -> BankResult:
    """Findings of the text bank and distances to the image banks; `features` is the record of `FeatureTask`,
    `regions` are the open segments it belongs to, `patch_distance` (h, w) is what the patch bank says.
    """
    by_class = object_bank.by_class
    asked = object_features(features, description, by_class)
    findings, index = find_differences(description, text_bank, params.text_score)
    return BankResult(
        image_id=description.image_id,
        findings=findings,
        nearest=text_bank.entries[index].image_id if index >= 0 else "",
        regions=[o.runs for o in description.objects] if by_class else list(regions),
        region_distance=object_bank.distances(*asked),
        patch_distance=patch_distance,
    )
