"""The paper's tables and figures: its printed numbers beside those of the units at hand."""
