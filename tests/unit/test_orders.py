"""What driver and workers tell each other survives the way."""

from __future__ import annotations

from hero_ray.benchmarks import get
from hero_ray.core.plan import Unit
from hero_ray.core.types import Sample
from hero_ray.pipeline.orders import pack_unit, unpack_unit


def test_a_unit_arrives_as_it_was_packed() -> None:
    references = [["a", "b"], {"answer": "c", "type": None}]
    samples = [
        Sample(
            "vqa",
            f"q{i}",
            "Où est l'étoile ★?",
            references,
            "pixels",
            ["test", 0, i],
            "",
            {"options": {"A": i}, "x": None},
        )
        for i in range(3)
    ]
    unit = Unit("u1", "pixels", tuple(samples))
    assert unpack_unit(pack_unit(unit)) == unit
    assert unpack_unit(pack_unit(Unit("u2", "none", ()))) == Unit("u2", "none", ())


def test_questions_about_one_picture_take_little_room() -> None:
    samples = tuple(get("synth-exist", num_images=1, questions_per_image=10).samples())
    assert len(pack_unit(Unit("u", samples[0].image_key, samples))) < 80 * len(samples)
    assert all(sample.image_ref is samples[0].image_ref for sample in samples), "what names a picture is held once"
