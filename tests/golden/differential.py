"""Our scorers beside lmms-eval's and VLMEvalKit's own functions, on answers made up at random.

    pip install --no-deps --target DIR lmms-eval==0.7.3 ms-vlmeval==0.0.20 loguru
    python -m tests.golden.differential DIR [ANSWERS]

A lane of its own, run by hand (`make differential`): it needs packages that nothing else here does. It ends with the
count of differences per rule and exit code 1 if one of them is not listed in `verdicts.LISTED`.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

from tests.golden.make_harness_vectors import draw, prepare, rules
from tests.golden.verdicts import listed, ours, same

SHOWN = 20


def main(root: Path, answers: int = 100_000, seed: int = 0) -> int:
    """The exit code: 1 if a difference is not listed."""
    prepare(root)
    known: Counter[str] = Counter()
    unlisted: list[str] = []
    judged = rules()
    for rule, (make, judge) in judged.items():
        dice = random.Random(f"{seed} {rule}")
        for _ in range(-(-answers // len(judged))):
            text = draw(dice).strip()
            references = make(dice, [draw(dice), draw(dice), text, text.lower(), text.upper()])
            theirs, found = judge(text, references), ours(rule, text, references)
            if not same(theirs, found):
                name = listed(rule, text, theirs, found)
                known[f"{rule}: {name}"] += bool(name)
                if not name:
                    unlisted.append(f"{rule}: {text!r} for {references!r}: theirs {theirs!r}, ours {found!r}")
    for line in unlisted[:SHOWN]:
        print(line)
    for name, count in sorted(known.items()):
        if count:
            print(f"{count} listed differences, {name}")
    print(
        f"{len(judged)} rules, {-(-answers // len(judged)) * len(judged)} answers, {len(unlisted)} unlisted differences"
    )
    return 1 if unlisted else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(int, sys.argv[2:3])))
