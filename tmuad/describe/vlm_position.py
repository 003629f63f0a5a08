"""Positions from a vision language model: asked once per image, revision and prompt, kept, and never asked again.

An answer is data. The file of a unit has one line of JSON per answer; a line is written as soon as the answer is there, so
that a killed run goes on from it, and a line cut short counts as none.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tmuad import weights
from tmuad.cache import Cache, Entry, write_atomic
from tmuad.config import DataParams
from tmuad.config_models import ComputeParams, VlmParams
from tmuad.describe.description import ImageDescription
from tmuad.describe.position_words import parse_answer
from tmuad.describe.qwen import Question, load_qwen
from tmuad.engine import ImageRef, executor, load_image
from tmuad.models.runtime import precision_of
from tmuad.progress import track

Positions = dict[tuple[str, str], list[str]]  # (image_id, object class) -> cells


@dataclass(frozen=True)
class Answer:
    image_id: str
    revision: str  # of the model: its name, precision and the digest of its weights
    prompt: str
    answer: str


class Answers:
    """The answers of one unit, on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[tuple[str, str, str], Answer] = {}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
            try:
                answer = Answer(**json.loads(line))
            except (ValueError, TypeError):
                continue  # cut short by a kill
            self.known[answer.image_id, answer.revision, answer.prompt] = answer

    def get(self, image_id: str, revision: str, prompt: str) -> str | None:
        answer = self.known.get((image_id, revision, prompt))
        return None if answer is None else answer.answer

    def add(self, answer: Answer) -> None:
        """Keep it in memory and on disk. A line that a kill cut short must not swallow the next one: it is ended first."""
        self.known[answer.image_id, answer.revision, answer.prompt] = answer
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as stream:
            if stream.tell() and not self._ends_a_line():
                stream.write(b"\n")
            stream.write(_line(answer))

    def tidy(self) -> None:
        """One line each, in sorted order: the same answers are the same bytes."""
        content = b"".join(_line(self.known[key]) for key in sorted(self.known))
        if self.known and content != self.path.read_bytes():
            write_atomic(self.path, content)

    def _ends_a_line(self) -> bool:
        with self.path.open("rb") as stream:
            stream.seek(-1, 2)
            return stream.read() == b"\n"


@dataclass(frozen=True)
class Asked(ImageRef):
    prompt: str


@dataclass(frozen=True)
class Asking:
    """What a worker does to get answers; see `tmuad.engine.Work`."""

    vlm: VlmParams
    compute: ComputeParams
    data: DataParams
    name: str = "describe"

    @property
    def batch(self) -> int:
        return self.vlm.batch

    def identity(self) -> str:
        return revision(self.vlm, self.compute)

    def within(self, cache: Cache) -> "Asking":
        return self

    def given(self, refs: Sequence[ImageRef]) -> list[Entry]:
        return []

    def __call__(self, refs: Sequence[ImageRef]) -> list[str]:
        questions = [Question(load_image(ref.path, self.data), ref.prompt) for ref in refs if isinstance(ref, Asked)]
        return load_qwen(self.vlm, self.compute).ask(questions)


def ask_positions(
    unit: str,
    images: Sequence[ImageRef],
    descriptions: Sequence[ImageDescription],
    vlm: VlmParams,
    compute: ComputeParams,
    data: DataParams,
) -> Positions:
    """What the model says of every object class of every image; a class it says nothing usable of is missing."""
    answers = Answers(Path(vlm.answers) / f"{unit}.jsonl")
    mark = revision(vlm, compute)
    asked = {d.image_id: prompt(d, vlm.prompt) for d in descriptions if d.classes}
    open_ = [
        ref for ref in images if ref.image_id in asked and answers.get(ref.image_id, mark, asked[ref.image_id]) is None
    ]
    bar = track(open_, "positions", len(open_))
    questions = [Asked(ref.image_id, ref.path, asked[ref.image_id]) for ref in open_]
    batches = [questions[i : i + vlm.batch] for i in range(0, len(questions), vlm.batch)]
    for batch, said in executor().run(Asking(vlm, compute, data), batches):
        for ref, answer in zip(batch, said, strict=True):
            answers.add(Answer(ref.image_id, mark, asked[ref.image_id], answer))
            next(bar, None)
    answers.tidy()
    positions: Positions = {}
    for d in descriptions:
        if d.classes:
            text = answers.get(d.image_id, mark, asked[d.image_id]) or ""
            for name, cells in parse_answer(text, [c.object_class for c in d.classes]).items():
                positions[d.image_id, name] = cells
    return positions


def prompt(description: ImageDescription, template: str) -> str:
    """The question about the object classes of one image."""
    return template.format(objects=", ".join(c.object_class for c in description.classes))


def revision(vlm: VlmParams, compute: ComputeParams) -> str:
    return f"{vlm.model} {precision_of(compute)} {vlm.max_tokens} {weights.digest(vlm.weights, compute)}"


def _line(answer: Answer) -> bytes:
    row = {key: getattr(answer, key) for key in ("image_id", "revision", "prompt", "answer")}
    return json.dumps(row, ensure_ascii=True).encode() + b"\n"
