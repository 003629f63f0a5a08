"""The text bank inside anomalib: `Engine(callbacks=[TextBankCallback(fusion)]).predict(...)` returns fused results."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.functional import interpolate

from tmuad.errors import DataError
from tmuad.plug.fusion import FusedImage, Fusion


class TextBankCallback(Callback):
    """Replaces scores, labels, maps and masks of every batch that is predicted or tested by those with M_T.

    `fusion` is calibrated on what the same model predicted of good images without this callback. anomalib's normalisation
    must be off, then and now: it runs after all callbacks, by the range that the detector's own scores had, and cuts off
    what lies beyond it.

    Attributes:
        images: image path -> verdict with its reasons, of the last run.
    """

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.fusion = fusion
        self.images: dict[str, FusedImage] = {}

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(pl_module)

    def _start(self, model: Any) -> None:
        if getattr(getattr(model, "post_processor", None), "enable_normalization", False):
            raise DataError(
                "anomalib would normalise the fused scores by the range of the detector's own and cut them off; set "
                "model.post_processor.enable_normalization = False, before the good images are predicted too"
            )
        self.images = {}

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        self.fuse(outputs)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        self.fuse(outputs)

    def fuse(self, batch: Any) -> None:
        """Fuse the predictions of one batch in place.

        Raises:
            DataError: the batch has no maps or paths, or the scale does not fit; see `Fusion.one`.
        """
        if batch.anomaly_map is None or batch.image_path is None:
            raise DataError("the model predicts no anomaly maps; the text bank needs one to be fused with")
        maps = batch.anomaly_map
        scores = batch.pred_score if self.fusion.score_scale is not None else [None] * len(batch.image_path)
        fused_scores, fused_maps = [], []
        for path, array, score in zip(batch.image_path, maps, scores, strict=True):
            image, fused = self.fusion.one(str(path), array, None if score is None else float(score))
            self.images[str(path)] = image
            fused_scores.append(image.score)
            resized = interpolate(torch.from_numpy(fused)[None, None], size=maps.shape[-2:], mode="bilinear")
            fused_maps.append(resized.reshape(array.shape))
        batch.pred_score = torch.tensor(fused_scores, dtype=maps.dtype, device=maps.device)
        batch.anomaly_map = torch.stack(fused_maps).to(maps)
        batch.pred_label = batch.pred_score > self.fusion.threshold
        batch.pred_mask = batch.anomaly_map > self.fusion.calibration.threshold
