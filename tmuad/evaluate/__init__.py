"""Metrics: `ranking` and what feeds it (`image_metrics`, `pixel_metrics`), and `evaluate` for all figures of a unit."""
