"""Algorithm 2: the nearest text, and what differs from it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import SHAPE, scene, thing

from tmuad import masks
from tmuad.banks.text import TextBank
from tmuad.config import TextScoreParams
from tmuad.describe.description import ImageDescription
from tmuad.score.text import Finding, find_differences, text_map, weigh

PARAMS = TextScoreParams()


# ---- findings


def kit(number: int = 0, jitter: float = 0.0) -> ImageDescription:
    """Two screws left, a washer in the centre, a plate at the bottom right."""
    return scene(
        number,
        thing("screw", 0.2 + jitter, 0.3),
        thing("screw", 0.2 + jitter, 0.7),
        thing("washer", 0.5, 0.5 + jitter, 5),
        thing("plate", 0.8, 0.8, 8),
    )


BANK = TextBank([kit(i, 0.01 * (i % 3 - 1)) for i in range(30)], SHAPE)


def differences(query: ImageDescription, bank: TextBank = BANK, params: TextScoreParams = PARAMS) -> list[Finding]:
    return find_differences(query, bank, params)[0]


def only(query: ImageDescription, params: TextScoreParams = PARAMS) -> Finding:
    (finding,) = differences(query, params=params)
    return finding


def covers(finding: Finding, x: float, y: float) -> bool:
    return bool(masks.decode(finding.region, SHAPE)[int(32 * y), int(32 * x)])


def test_a_normal_image_has_no_finding() -> None:
    assert differences(kit(99)) == []


def test_a_missing_object_is_marked_at_its_empty_place() -> None:
    query = scene(1, thing("screw", 0.2, 0.3), thing("washer", 0.5, 0.5, 5), thing("plate", 0.8, 0.8, 8))
    finding = only(query)
    assert (finding.object_class, finding.attribute, finding.expected, finding.found) == ("screw", "missing", "2", "1")
    assert (finding.count, finding.where, finding.strength) == (1, "bottom left", 1.0)
    assert covers(finding, 0.2, 0.7)
    assert not covers(finding, 0.2, 0.3)


def test_a_missing_object_is_marked_as_the_paper_prints_it() -> None:
    query = scene(1, thing("screw", 0.2, 0.3), thing("washer", 0.5, 0.5, 5), thing("plate", 0.8, 0.8, 8))
    finding = only(query, TextScoreParams(undercount="paper"))
    assert covers(finding, 0.2, 0.3)
    assert not covers(finding, 0.2, 0.7)


@pytest.mark.parametrize("undercount", ["paper", "released"])
def test_a_class_without_any_object_is_marked_wherever_it_may_be(undercount: str) -> None:
    query = scene(1, thing("screw", 0.2, 0.3), thing("screw", 0.2, 0.7), thing("plate", 0.8, 0.8, 8))
    finding = only(query, TextScoreParams.model_validate({"undercount": undercount}))
    assert (finding.object_class, finding.attribute, finding.expected, finding.found) == ("washer", "missing", "1", "0")
    assert finding.region.tolist() == BANK.classes["washer"].region.tolist()


def test_an_extra_object_is_marked_and_not_its_rightful_twins() -> None:
    finding = only(scene(1, *kit().objects, thing("screw", 0.8, 0.2)))
    assert (finding.object_class, finding.attribute, finding.expected, finding.found) == ("screw", "extra", "2", "3")
    assert (finding.count, finding.where, masks.area(finding.region)) == (1, "top right", 16)
    assert covers(finding, 0.8, 0.2)


def test_an_object_of_an_unknown_class_is_extra() -> None:
    finding = only(scene(1, *kit().objects, thing("coin", 0.8, 0.2), thing("coin", 0.6, 0.2)))
    assert (finding.object_class, finding.attribute, finding.expected, finding.found) == ("coin", "extra", "none", "2")
    assert masks.area(finding.region) == 32


def test_swapped_objects_are_both_out_of_place() -> None:
    query = scene(
        1, thing("screw", 0.2, 0.3), thing("screw", 0.2, 0.7), thing("washer", 0.8, 0.8, 5), thing("plate", 0.5, 0.5, 8)
    )
    findings = {f.object_class: f for f in differences(query)}
    assert {f.attribute for f in findings.values()} == {"position"}
    assert (findings["washer"].expected, findings["washer"].found) == ("centre", "bottom right")
    assert (findings["plate"].expected, findings["plate"].found) == ("bottom right", "centre")
    assert covers(findings["plate"], 0.5, 0.5)


def test_one_class_in_place_of_another_is_extra_and_missing() -> None:
    query = scene(
        1, thing("screw", 0.2, 0.3), thing("screw", 0.2, 0.7), thing("screw", 0.5, 0.5), thing("plate", 0.8, 0.8, 8)
    )
    assert sorted((f.object_class, f.attribute) for f in differences(query)) == [
        ("screw", "extra"),
        ("washer", "missing"),
    ]


def test_an_object_moved_within_its_cell_is_out_of_place_by_a_number() -> None:
    query = scene(
        1, thing("screw", 0.2, 0.3), thing("screw", 0.2, 0.7), thing("washer", 0.6, 0.5, 5), thing("plate", 0.8, 0.8, 8)
    )
    finding = only(query)
    assert (finding.object_class, finding.attribute) == ("washer", "position")
    assert finding.expected == "centre, within 2 %"
    assert finding.found == "centre, 10 % of the side away"


@pytest.mark.parametrize(("side", "alpha"), [(8, 1.0), (2, 1.0)])
def test_an_object_of_another_size_is_marked(side: int, alpha: float) -> None:
    finding = only(scene(1, *kit().objects[:3], thing("washer", 0.5, 0.5, side)))
    assert (finding.object_class, finding.attribute, finding.strength) == ("washer", "size", alpha)
    assert finding.region.tolist() == thing("washer", 0.5, 0.5, side).runs.tolist()
    assert finding.found == f"{100 * side**2 / 1024:.2g} %"


def test_findings_come_strongest_first() -> None:
    query = scene(1, thing("screw", 0.2, 0.3), thing("screw", 0.29, 0.7), thing("plate", 0.8, 0.8, 8))
    strengths = [f.strength for f in differences(query)]
    assert len(strengths) == 2
    assert strengths == sorted(strengths, reverse=True)


def test_the_empty_place_of_a_missing_object_holds_no_other_object() -> None:
    """Another part lies half over the place of the missing screw: only the rest of the place is empty."""
    query = scene(1, thing("screw", 0.2, 0.3), thing("washer", 0.25, 0.7, 5), thing("plate", 0.8, 0.8, 8))
    (finding,) = [f for f in differences(query) if f.attribute == "missing"]
    washer = query.by_name["washer"].objects[0]
    assert masks.area(finding.region) > 0
    assert masks.intersection(finding.region, washer.runs) == 0


def test_of_three_where_two_are_normal_the_one_of_strange_size_is_extra() -> None:
    """It lies a little nearer to a normal place than the rightful one, but is no screw of normal size."""
    query = scene(
        1,
        *[o for o in kit().objects if o.object_class != "screw"],
        thing("screw", 0.2, 0.3),
        thing("screw", 0.25, 0.75),
        thing("screw", 0.22, 0.68, 8),
    )
    (extra,) = [f for f in differences(query) if f.attribute == "extra"]
    assert masks.area(extra.region) == 64


def test_a_bank_of_one_image() -> None:
    bank = TextBank([kit()], SHAPE)
    assert differences(kit(), bank) == []
    assert [f.attribute for f in differences(scene(1, *kit().objects[:3]), bank)] == ["missing"]


def test_an_empty_bank_finds_nothing() -> None:
    assert find_differences(kit(), TextBank([], SHAPE), PARAMS) == ([], -1)


def test_an_empty_image_lacks_everything() -> None:
    findings = differences(scene(1))
    assert sorted((f.object_class, f.attribute, f.count) for f in findings) == [
        ("plate", "missing", 1),
        ("screw", "missing", 2),
        ("washer", "missing", 1),
    ]


def test_a_bank_of_empty_images_wants_nothing() -> None:
    bank = TextBank([scene(0), scene(1)], SHAPE)
    assert differences(scene(2), bank) == []
    assert [f.attribute for f in differences(kit(), bank)] == ["extra"] * 3


THINGS = st.lists(
    st.builds(thing, st.sampled_from("abc"), st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.integers(1, 9)), max_size=5
)


@settings(max_examples=40)
@given(st.lists(THINGS, min_size=1, max_size=5))
def test_an_entry_scored_against_its_own_bank_shows_slips_alone(scenes) -> None:  # type: ignore[no-untyped-def]
    """No count can be wrong; a place or a size only where the bank has set it aside as a slip of the segmenter."""
    bank = TextBank([scene(i, *objects) for i, objects in enumerate(scenes)], SHAPE)
    for entry in bank.entries:
        for f in differences(entry, bank):
            alike = [c for e in bank.entries for c in e.classes if c.object_class == f.object_class]
            areas = np.array([o.area for c in alike for o in c.objects])
            sizes = np.array([c.size for c in alike])
            places = [(o.x, o.y) for c in alike for o in c.objects]
            slips = {"size": outlies(areas) or outlies(sizes), "position": len(places) > 2}
            assert slips.get(f.attribute, False), f


def outlies(values: np.ndarray) -> bool:
    """Whether some value is more than 6 robust standard deviations, or 12 %, from the median."""
    away = abs(values - np.median(values))
    return bool((away > 6 * max(1.4826 * np.median(away), 0.02 * np.median(values))).any())


@settings(max_examples=40)
@given(st.floats(0.2, 0.8), st.floats(0.2, 0.8), st.integers(3, 9), st.integers(2, 8))
def test_an_entry_of_a_bank_of_equals_has_no_finding(x: float, y: float, side: int, images: int) -> None:
    bank = TextBank([scene(i, thing("a", x, y, side), thing("b", 0.1, 0.1)) for i in range(images)], SHAPE)
    assert all(differences(entry, bank) == [] for entry in bank.entries)


@settings(max_examples=60)
@given(st.lists(THINGS, min_size=1, max_size=4), THINGS, st.sampled_from(["paper", "released"]))
def test_findings_hold_together(scenes, objects, undercount: str) -> None:  # type: ignore[no-untyped-def]
    bank = TextBank([scene(i, *known) for i, known in enumerate(scenes)], SHAPE)
    query = scene(9, *objects)
    params = TextScoreParams.model_validate({"undercount": undercount, "matching": "strict"})
    findings, index = find_differences(query, bank, params)
    similar = bank.entries[index]
    for f in findings:
        assert 0 < f.strength <= 1
        assert f.count >= 1
        assert int(f.region.sum()) == 32 * 32
        if f.attribute in ("missing", "extra"):
            normal = similar.by_name[f.object_class].count if f.object_class in similar.by_name else 0
            here = query.by_name[f.object_class].count if f.object_class in query.by_name else 0
            assert (f.expected, f.found) == (str(normal or "none"), str(here))
            assert f.count == abs(normal - here)
            assert (f.attribute == "extra") == (here > normal)
        else:
            assert f.expected != f.found
    changed = {name for name in {*query.by_name, *similar.by_name} if _count(query, name) != _count(similar, name)}
    assert changed == {f.object_class for f in findings if f.attribute in ("missing", "extra")}


def _count(image: ImageDescription, name: str) -> int:
    return image.by_name[name].count if name in image.by_name else 0


@pytest.mark.parametrize("excess", [1.0012, 1.004, 1.02])
def test_sizes_show_as_many_digits_as_tell_them_apart(excess: float) -> None:
    """A share of 12.34 % where 12.3 % is normal must not read 'found 12 %, normally 12 %'."""
    from dataclasses import replace

    from tmuad.score.sentences import sentence

    plain = kit().by_name["plate"].objects[0]
    large = replace(plain, area=BANK.classes["plate"].object_size.high * excess)
    finding = only(scene(1, *[o for o in kit().objects if o.object_class != "plate"], large))
    assert finding.found.removesuffix(" %") not in finding.expected.removesuffix(" %").split(" to ")
    assert " is too large: " in sentence(finding, {})


# ---- map and weights


def test_the_map_is_the_maximum_of_the_findings() -> None:
    a, b = (np.zeros(SHAPE, dtype=np.bool_) for _ in range(2))
    a[:20], b[10:] = True, True
    findings = [
        Finding("x", "size", "", "", strength, masks.encode(region), 1, "")
        for strength, region in ((0.25, a), (0.75, b))
    ]
    for order in (findings, findings[::-1]):
        score = text_map(order, SHAPE)
        assert score.dtype == np.float32
        assert (score[:10] == 0.25).all()
        assert (score[10:] == 0.75).all()
    assert not text_map([], SHAPE).any()


def test_unreliable_findings_lose_strength_or_drop_out() -> None:
    region = masks.encode(np.ones(SHAPE, dtype=np.bool_))
    findings = [Finding("x", kind, "", "", 1.0, region, 1, "") for kind in ("size", "extra", "missing")]  # type: ignore[arg-type]
    weighed = weigh(findings, {"x/size": 0.25, "x/extra": 0.0, "y/missing": 0.0})
    assert [(f.attribute, f.strength) for f in weighed] == [("missing", 1.0), ("size", 0.25)]


# ---- few-shot


def test_relaxed_matching_looks_at_classes_alone() -> None:
    relaxed = TextScoreParams(matching="relaxed")
    one_more = scene(1, *kit().objects, thing("screw", 0.8, 0.2))
    elsewhere = scene(
        1, thing("screw", 0.2, 0.3), thing("screw", 0.2, 0.7), thing("washer", 0.5, 0.5, 5), thing("plate", 0.2, 0.5, 3)
    )
    assert differences(one_more) and differences(elsewhere)
    assert differences(one_more, params=relaxed) == differences(elsewhere, params=relaxed) == []
    absent = only(scene(1, thing("screw", 0.5, 0.5), thing("plate", 0.8, 0.8, 8)), relaxed)
    assert (absent.object_class, absent.attribute, absent.strength) == ("washer", "missing", 1.0)
    unknown = only(scene(1, *kit().objects, thing("spider", 0.5, 0.2)), relaxed)
    assert (unknown.object_class, unknown.attribute) == ("spider", "extra")


def test_auto_matching_is_strict_from_a_number_of_normal_images_on() -> None:
    query = scene(1, *kit().objects, thing("screw", 0.8, 0.2))
    params = TextScoreParams()
    few, enough = (TextBank(BANK.entries[:n], SHAPE) for n in (params.strict_from - 1, params.strict_from))
    assert differences(query, few) == [] and differences(query, enough) != []
    assert differences(query, few, TextScoreParams(matching="strict")) != []
    assert differences(query, few, TextScoreParams(strict_from=1)) != []
