"""Write harness_vectors.json: prompts and scores as lmms-eval and VLMEvalKit themselves give them.

    pip install --no-deps --target DIR lmms-eval==0.7.3 ms-vlmeval==0.0.20 loguru
    python -m tests.golden.make_harness_vectors DIR

Task files are imported on their own, without their packages' heavy start. Answers are drawn at random from words that
the rules care about; the harness's verdict is the expected value.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import random
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from hero_ray.benchmarks import get
from hero_ray.benchmarks.base import Benchmark
from tests import hub_layouts
from tests.golden.verdicts import ROADS, listed, ours

CASES = 60
VOCABULARY = (
    "A|B|C|D|E|a|b|c|d|(A)|(B)|B.|C,|D:|A)|(C).|:B|Yes|yes|No|no|Not|none.|The|the|a|an|answer|is|Answer:|option|correct|two|2|ten|"
    "3.5|3.5.|1,000|50%|5%%|0|0.0|red|RED|cat|cats|dog's|Joe's|I'm|dont|don't|cant|/x|x/y|-|-b|well-known|[|]|;|?|!|.|,|'|\"|\n|"
    "\t|nan|inf|1e3|ß|İ|ＡＢ　Ｃ|答案是|选|B。|...|.5|2.|I choose|Z|Left|Straight|Right|zero|one"
    "|**B**|*A*|**C.**|(D|The answer is|answer is|The answer is **|the answer is (|Because|Final answer: **|`B`|"
    "Failed to obtain answer via API|Cannot determine the answer|I can't process this file.|E.|unanswerable|YES!|no,"
)
TASKS = {
    "vqav2_val": "vqav2/vqav2_val", "textvqa_val": "textvqa/textvqa_val", "vizwiz_vqa_val": "vizwiz_vqa/vizwiz_vqa_val",
    "gqa": "gqa/gqa", "scienceqa_img": "scienceqa/scienceqa_img", "chartqa": "chartqa/chartqa",
    "docvqa_val": "docvqa/docvqa_val", "ocrbench": "ocrbench/ocrbench", "mme": "mme/mme",
    "mmbench_en_dev": "mmbench/mmbench_en_dev_static", "pope": "pope/pope", "mmstar": "mmstar/mmstar",
    "realworldqa": "realworldqa/realworldqa", "ai2d": "ai2d/ai2d", "mmvet": "mmvet/mmvet",
    "seedbench": "seedbench/seedbench", "hrbench4k": "hrbench/hrbench4k", "hrbench8k": "hrbench/hrbench8k",
    "vstar_bench": "vstar_bench/vstar_bench", "infovqa_val": "infovqa/infovqa_val",
}  # fmt: skip


def shell(name: str, root: Path) -> None:
    """A package that runs no code of its own, so that single files of it can be imported."""
    module = types.ModuleType(name)
    module.__path__ = [str(root / name.replace(".", "/"))]
    sys.modules[name] = module


def stand_in(name: str, **content: Any) -> None:
    """A module with nothing but what task files import from it."""
    module = types.ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module


def prepare(root: Path) -> None:
    sys.path.append(str(root))
    packages = ["lmms_eval", "lmms_eval.tasks", "lmms_eval.tasks._task_utils", "lmms_eval.filters", "vlmeval"]
    packages += ["vlmeval.utils", "vlmeval.smp", *(f"lmms_eval.tasks.{task.split('/')[0]}" for task in TASKS.values())]
    for package in packages:
        shell(package, root)
    nothing: Callable[..., Any] = lambda *a, **k: None  # noqa: E731
    blank = type("Blank", (), {"__init__": lambda self, *a, **k: vars(self).update(mapping_dict=a[0] if a else {})})
    stand_in("vlmeval.smp.log", get_logger=logging.getLogger)
    stand_in("lmms_eval.tasks._task_utils.file_utils", generate_submission_file=nothing)
    stand_in("lmms_eval.llm_judge", Request=nothing, ServerConfig=nothing, get_server=nothing)
    stand_in("lmms_eval.filters.extraction", ExtendedRegexFilter=blank)
    stand_in("lmms_eval.filters.transformation", MapFilter=blank)
    importlib.import_module("loguru").logger.remove()


def task_settings(path: Path) -> dict[str, Any]:
    """A task's YAML with its includes."""

    class Loader(yaml.SafeLoader): ...

    Loader.add_constructor("!function", lambda loader, node: node.value)
    content: dict[str, Any] = yaml.load(path.read_text(), Loader)
    base = content.pop("include", None)
    return {**task_settings(path.parent / base), **content} if base else content


def prompts(root: Path, name: str, benchmark: Any) -> list[str]:
    """The task's own prompt for every made-up row."""
    settings = task_settings(root / "lmms_eval/tasks" / f"{TASKS[name]}.yaml")
    module, function = settings["doc_to_text"].rsplit(".", 1)
    make = getattr(importlib.import_module(f"lmms_eval.tasks.{TASKS[name].split('/')[0]}.{module}"), function)
    extra = [(settings.get("lmms_eval_specific_kwargs") or {}).get("default")]
    columns = [column for column in benchmark.table.columns if column != "image"]
    rows = [row for _, row in benchmark.table.rows(columns) if benchmark.wanted(row)]
    return [make(row, *extra[: len(inspect.signature(make).parameters) - 1]) for row in rows]


def rules() -> dict[str, tuple[Callable[[random.Random, list[str]], Any], Callable[[str, Any], Any]]]:
    """Per rule: how references are drawn, and the harness's verdict on (stripped answer, references)."""
    task = {name: importlib.import_module(f"lmms_eval.tasks.{name}.utils") for name in (
        "vqav2", "textvqa", "vizwiz_vqa", "scienceqa", "mmstar", "realworldqa", "ocrbench", "mme", "pope", "seedbench",
        "chartqa", "vstar_bench",
    )}  # fmt: skip
    loose = importlib.import_module("lmms_eval.tasks.hrbench.hrbench_evals").HRBenchEval(api_key="")
    matcher = importlib.import_module("lmms_eval.tasks.mmbench.mmbench_evals").MMBench_Evaluator()
    kit = importlib.import_module("vlmeval.utils.matching_util")

    def ten(dice: random.Random, pool: list[str]) -> Any:
        return [dice.choice(pool) for _ in range(10)]

    def letter(dice: random.Random, pool: list[str]) -> Any:
        return dice.choice("ABC")

    def options(dice: random.Random, pool: list[str]) -> Any:
        return {key: dice.choice(["cat", "dog", "nan", "red car", "2", "the left side"]) for key in "ABCD"}

    def one_of(dice: random.Random, pool: list[str]) -> Any:
        return {"answer": letter(dice, pool), "options": options(dice, pool)}

    def vqav2(text: str, answers: Any) -> Any:
        records = [{"answer": answer, "answer_confidence": "yes", "answer_id": i} for i, answer in enumerate(answers)]
        document = {"question_id": 1, "image_id": 1, "question": "", "answers": records}
        return task["vqav2"].vqav2_process_results_val(document, [text])["exact_match"]

    def old_roads(text: str, gold: Any) -> Any:
        filtered = task["realworldqa"].NumberWordsToDigitsFilter()
        filtered.mapping_dict = {"zero": "0", "one": "1", "two": "2", "ten": "10"}
        lines = (
            task["realworldqa"].MultiChoiceRegexFilter().apply(filtered.apply([[text]], None), [{"question": ROADS}])
        )
        return lines[0].lower().strip().rstrip(".") == gold.lower().strip()

    return {
        "vqav2_val": (ten, vqav2),
        "textvqa_val": (ten, lambda t, r: task["textvqa"].textvqa_process_results(
            {"question_id": 1, "answers": list(r)}, [t])["exact_match"]),
        "vizwiz_vqa_val": (ten, lambda t, r: task["vizwiz_vqa"].vizwiz_vqa_process_results(
            {"question_id": 1, "answers": list(r)}, [t])["exact_match"]),
        "scienceqa_img": (letter, lambda t, r: task["scienceqa"].sqa_process_results(
            {"choices": list("xyz"), "answer": "ABC".index(r)}, [t])["exact_match"]),
        "mmstar": (letter, lambda t, r: task["mmstar"].exact_match(t, r)),
        "realworldqa": (lambda d, p: d.choice(["A", "B", "2", "red", "0"]), lambda t, r: task[
            "realworldqa"].realworldqa_process_results({"answer": r, "question": ROADS}, [t])["exact_match"]),
        "realworldqa@v0.2.0": (lambda d, p: d.choice(["A", "B", "2", "red", "0"]), old_roads),
        "ocrbench": (lambda d, p: {"answers": [d.choice(p), d.choice(p)], "dataset": d.choice(["HME100k", "SVT"])},
                     lambda t, r: task["ocrbench"].ocrbench_process_results(
            {"answer": r["answers"], "dataset": r["dataset"], "question_type": ""}, [t])["ocrbench_accuracy"]["score"]),
        "mme": (lambda d, p: d.choice(["Yes", "No"]), lambda t, r: task["mme"].parse_pred_ans(t) == r.lower()),
        "pope": (lambda d, p: d.choice(["yes", "no"]), lambda t, r: task["pope"].pope_process_results(
            {"answer": r, "question_id": "1"}, [t])["pope_accuracy"]["score"]),
        "seedbench": (letter, lambda t, r: t[:1].upper() == r.upper() if not t else task[
            "seedbench"].seed_aggregation_result([task["seedbench"].seed_process_result(
                {"answer": r, "data_type": "image", "question_id": "1"}, [t])["seed_image"]])),
        "chartqa": (lambda d, p: d.choice([*p, "10", "0.5", "3.5"]),
                    lambda t, r: task["chartqa"].relaxed_correctness(t, r)),
        "hrbench4k": (one_of, lambda t, r: (
            str(loose.can_infer(t, dict(r["options"]))).lower() == r["answer"].lower())),
        "vstar_bench": (letter, lambda t, r: task["vstar_bench"].vstar_process_results(
            {"label": r, "category": "", "question_id": "1", "text": ""}, [t])["vstar_overall_acc"]["score"]),
        "mmbench_en_dev@v0.2.0": (options, lambda t, r: matcher.can_infer(t, dict(r)) or None),
        "mmbench_en_dev@vlmevalkit": (options, lambda t, r: kit.can_infer(t, dict(r)) or None),
    }  # fmt: skip


def draw(dice: random.Random) -> str:
    return dice.choice([" ", " ", " ", "", ". "]).join(
        dice.choice(VOCABULARY.split("|")) for _ in range(dice.choice((0, 1, 1, 2, 2, 3, 4, 6)))
    )


def cases(name: str, make: Callable[..., Any], judge: Callable[[str, Any], Any]) -> list[list[Any]]:
    """[answer, references, verdict] rows, half of them (where possible) not plainly wrong."""
    dice, kept = random.Random(name), [[], []]  # type: tuple[random.Random, list[list[list[Any]]]]
    for _ in range(4000):
        text = draw(dice).strip()
        references = make(dice, [draw(dice), draw(dice), text, text.lower(), text.upper()])
        verdict = judge(text, references)
        verdict = float(verdict) if isinstance(verdict, (bool, int, float)) else verdict
        if listed(name, text, verdict, ours(name, text, references)):
            continue  # there the released package is not what we follow
        side = kept[1 if verdict else 0]
        if len(side) < CASES // 2:
            side.append([text, references, verdict])
    return kept[0] + kept[1]


def main(root: Path) -> None:
    prepare(root)
    with tempfile.TemporaryDirectory() as folder:
        hub_layouts.write(Path(folder))
        opened: dict[str, Benchmark] = {name: get(name, data=Path(folder) / name) for name in TASKS}
        made = {name: prompts(root, name, benchmark) for name, benchmark in opened.items()}
    content = {
        "source": "lmms-eval 0.7.3, ms-vlmeval 0.0.20 (VLMEvalKit's matcher)",
        "prompts": made,
        "scores": {name: cases(name, *rule) for name, rule in rules().items()},
    }
    target = Path(__file__).with_name("harness_vectors.json")
    target.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
