"""Model folders that are broken are one line each, before anything is built from them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from hero_ray import models
from hero_ray.core.errors import CheckpointError
from hero_ray.models import miniature
from hero_ray.models.shapes import shape

INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(miniature.write_llava(miniature.llava_15(), tmp_path_factory.mktemp("whole"), miniature.clip()))


def broken(whole: Path, folder: Path, name: str, text: str) -> str:
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "holds a JSON list"),
        ("7", "holds a JSON int"),
        ("null", "holds a JSON NoneType"),
        ("{}", "no usable weight_map"),
        ('{"weight_map": []}', "no usable weight_map"),
        ('{"weight_map": 3}', "no usable weight_map"),
        ('{"weight_map": {"a": 3}}', "no usable weight_map"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "is no file beside it"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "is no file beside it"),
    ],
)
def test_an_index_that_is_none(whole: Path, tmp_path: Path, text: str, says: str) -> None:
    folder = broken(whole, tmp_path, INDEX, text)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00001.safetensors")
    with pytest.raises(CheckpointError, match=says) as caught:
        models.load(folder, device="cpu")
    assert "\n" not in str(caught.value)


def changed(whole: Path, part: str | None, key: str, value: Any) -> str:
    config = json.loads((whole / "config.json").read_text())
    (config if part is None else config[part])[key] = value
    return json.dumps(config)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("text_config", "num_hidden_layers", 100_000),
        ("text_config", "num_hidden_layers", -1),
        ("text_config", "num_hidden_layers", "2"),
        ("text_config", "num_hidden_layers", True),
        ("text_config", "vocab_size", 10**12),
        ("text_config", "vocab_size", -5),
        ("text_config", "hidden_size", 2.5),
        ("text_config", "num_attention_heads", 0),
        ("vision_config", "patch_size", 0),
        ("vision_config", "num_hidden_layers", [1]),
        (None, "text_config", None),
        (None, "vision_config", "clip"),
        (None, "vision_feature_layer", 99),
        (None, "image_token_index", "x"),
    ],
)
def test_sizes_that_no_model_has(whole: Path, tmp_path: Path, part: str | None, key: str, value: Any) -> None:
    folder = broken(whole, tmp_path, "config.json", changed(whole, part, key, value))
    with pytest.raises(CheckpointError) as caught:
        models.load(folder, device="cpu")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_weights_of_another_size_cost_no_memory(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its text_config a folder describes a 7B: 27 GB in fp32 for nothing, and no fork until they are gone."""
    asked: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "to_empty", lambda module, **_: asked.append(module))
    folder = broken(whole, tmp_path, "config.json", changed(whole, None, "text_config", None))
    with pytest.raises(CheckpointError, match="do not belong together"):
        models.load(folder, device="cpu")
    assert not asked


@pytest.mark.parametrize("text", ["null", "[]", "{", '{"model_type": null}', '{"text_config": ' + "[" * 100_000])
def test_a_config_that_is_none(whole: Path, tmp_path: Path, text: str) -> None:
    folder = broken(whole, tmp_path, "config.json", text)
    for ask in (lambda: models.load(folder, device="cpu"), lambda: shape(folder)):
        with pytest.raises(CheckpointError):
            ask()


@pytest.mark.parametrize("name", ["tokenizer.json", "preprocessor_config.json"])
@pytest.mark.parametrize("text", ["null", "[]", "{", "{}"])
def test_other_files_that_are_none(whole: Path, tmp_path: Path, name: str, text: str) -> None:
    folder = broken(whole, tmp_path, name, text)
    if (name, text) == ("preprocessor_config.json", "{}"):
        assert models.load(folder, device="cpu")
        return
    with pytest.raises(CheckpointError, match=name):
        models.load(folder, device="cpu")
