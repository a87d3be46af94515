#!/usr/bin/env bash
# How many options has a two-option question? One JSON Lines file, five readers.
#
# Expected: `datasets` reads rows whose `options` have different letters as one struct with every letter, absent ones
#   None, as Dataset.from_list does with the very same rows; a column that mixes texts and lists is an error.
# Happens: load_dataset("json") gives each row its own letters only, in a new column type Json, and takes the mixed column
#   as well. Dataset.from_list, pyarrow, polars and duckdb give every row all letters of the file. Which type a column gets is
#   decided by the data: the file without its one odd row is a plain struct again. Written to Parquet the column is text of
#   the extension arrow.json, which pyarrow hands over as text, and datasets as dicts.
# Versions: datasets 5.2.0, pyarrow 26.0.1, polars 2.1.0, duckdb 2.0.1. Run on 2026-11-30.
# Matters: multiple-choice prompts list `options`. Whoever goes through the dict asks "A. x B. y" after one reader and
#   "A. x B. y C. None D. None" after another, and guessing rates change from 1/2 to 1/4, between two runs of one file.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${FINDINGS_VENV:-$work/venv} # a folder of yours is kept and used again
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install -q --no-compile --disable-pip-version-check datasets==5.2.0 pyarrow==26.0.1 polars==2.1.0 duckdb==2.0.1
cd "$work"
HF_HUB_OFFLINE=1 HF_HOME="$work/hf" "$venv/bin/python" - <<'PY'
import json
from importlib.metadata import version

import datasets
import duckdb
import polars
import pyarrow.json
import pyarrow.parquet

datasets.disable_progress_bars()
print({name: version(name) for name in ("datasets", "pyarrow", "polars", "duckdb")})
rows = [
    {"question": "Is it red?", "options": {"A": "yes", "B": "no"}},
    {"question": "Which one?", "options": {"A": "cat", "B": "dog", "C": "cow", "D": "pig"}},
]


def write(name, content):
    with open(name, "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in content)
    return name


def read(name):
    return datasets.load_dataset("json", data_files=name, split="train")


file = write("rows.jsonl", rows)
column = read(file)
first = {
    "datasets, load_dataset('json')": column[0]["options"],
    "datasets, from_list": datasets.Dataset.from_list(rows)[0]["options"],
    "pyarrow.json": pyarrow.json.read_json(file)["options"].to_pylist()[0],
    "polars": polars.read_ndjson(file)["options"].to_list()[0],
    "duckdb": duckdb.sql(f"select options from '{file}'").fetchall()[0][0],
}
for reader, options in first.items():
    print(f"{reader:32} {len(options)} options: {options}")
print("type in datasets:", column.features["options"])

alike = read(write("alike.jsonl", rows[1:])).features["options"]
print("type without the odd row:", alike)
mixed = read(write("mixed.jsonl", [{"answer": "cat"}, {"answer": ["cat", "a cat"]}, {"answer": 3}]))
print("texts, lists and numbers in one column:", mixed["answer"][:], mixed.features["answer"])
column.to_parquet("rows.parquet")
stored = pyarrow.parquet.read_table("rows.parquet")["options"]
again = datasets.load_dataset("parquet", data_files="rows.parquet", split="train")[0]["options"]
print("in Parquet:", stored.type, repr(stored[0].as_py()), "and back:", again)

whole = {"A": "yes", "B": "no", "C": None, "D": None}
assert first.pop("datasets, load_dataset('json')") == rows[0]["options"]
assert all(options == whole for options in first.values()), first
assert type(column.features["options"]).__name__ == "Json" and type(alike).__name__ == "dict"
assert mixed["answer"][:] == ["cat", ["cat", "a cat"], 3]
assert again == rows[0]["options"] and json.loads(stored[0].as_py()) == rows[0]["options"]
print("as recorded")
PY
