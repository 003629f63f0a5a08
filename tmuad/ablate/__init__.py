"""Ablations: variants of the method declared in variants.yaml, each recomputed from the stage on that it changes."""
