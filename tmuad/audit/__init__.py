"""The audit of a set of normal images before it is fitted: `looks` at pixels, `words` at descriptions, `report` shows."""
