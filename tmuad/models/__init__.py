"""What the adapters of foundation models share: where they run, their weights, how many images at once."""
