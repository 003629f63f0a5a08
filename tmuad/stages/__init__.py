"""One thin module per DVC stage: read parameters and artifacts, call the library, write artifacts.

`python -m tmuad.stages STAGE [UNIT]` runs one; dvc.yaml says in which order.
"""
