"""Metrics: `ranking` and what feeds it (`image_metrics`, `pixel_metrics`, `regions`, `pixel_stream`), intervals and paired
tests (`bootstrap`, `compare`), and `evaluate` for all figures of a unit.
"""
