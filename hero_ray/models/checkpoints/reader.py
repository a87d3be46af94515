"""Safetensors folders: which files, what is in them, what they hash to, and filling a model from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hero_ray.core.errors import CheckpointError
from hero_ray.models.build import META, place
from hero_ray.models.checkpoints.plausible import read_object

Translate = Callable[[str, Tensor], dict[str, Tensor]]
"""Maps one checkpoint entry to the native entries it holds; an empty dict drops it on purpose."""

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def weight_files(folder: Path) -> list[Path]:
    """Safetensors files of a folder: as transformers picks them, a `model.safetensors` before an index of shards, and
    where there is neither, all of them.

    Raises:
        CheckpointError: pickled weights only, no weights, a shard missing, or an index that is none.
    """
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        listed = _listed(index)
        missing = [name for name in listed if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(f"{folder} lacks {len(missing)} of {len(listed)} shards: {', '.join(missing)}")
        return [folder / name for name in listed]
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{folder} holds pickled weights only ({', '.join(pickles[:3])}); loading a pickle can run code. "
            "Convert them to safetensors once and load that folder"
        )
    raise CheckpointError(
        f"{folder} holds no .safetensors file; where a model is published as pickles only, convert a trusted copy to "
        "safetensors once and load that folder"
    )


def _listed(index: Path) -> list[str]:
    """The shards an index names; all of them lie beside it, since the folder's own files alone are hashed."""
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise CheckpointError(f"{index} has no usable weight_map; expected an object of tensor names and file names")
    listed = sorted(set(shards.values()))
    if outside := [name for name in listed if Path(name).name != name or name in ("", ".", "..")]:
        raise CheckpointError(f"{index} names {outside[0][:80]!r}, which is no file beside it")
    return listed


def entries(folder: Path, device: torch.device | str = "cpu") -> Iterator[tuple[str, Tensor]]:
    """Every (key, tensor) of a folder, one tensor in memory at a time, read straight to `device`.

    Raises:
        CheckpointError: a damaged file.
    """
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt", device=str(device)) as shard:
                for key in shard.keys():  # noqa: SIM118 - not a mapping
                    yield key, shard.get_tensor(key)
        except SafetensorError as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error


def keys(folder: Path) -> list[str]:
    """Names of all tensors of a folder."""
    return [key for key, _ in headers(folder)]


def headers(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every key of a folder with a tensor of its shape that holds nothing; no weight is read.

    Raises:
        CheckpointError: a damaged file.
    """
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as shard:
                for key in shard.keys():  # noqa: SIM118 - not a mapping
                    yield key, torch.empty(shard.get_slice(key).get_shape(), device=META)
        except SafetensorError as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error


@torch.no_grad()
def fill(model: nn.Module, folders: Sequence[Path], translate: Translate, device: torch.device, but: str = "") -> None:
    """Bring a model of shapes to `device`, with the weights of one or more folders.

    Names and shapes are compared before there is memory for a single weight: a folder that does not belong to its
    configuration costs neither a read nor a 7B's allocation.

    Args:
        but: name of a part that stays shapes, since someone else holds its weights.

    Raises:
        CheckpointError: a key nobody wants, a weight nobody brings, one brought twice, or a wrong shape.
    """
    check(model, folders, translate)
    place(model, device, but)
    wanted, doubles = tensors(model), second_names(model)
    twice: dict[str, Tensor] = {}
    for key, tensor in (entry for folder in folders for entry in entries(folder, device)):
        for name, value in translate(key, tensor).items():
            if name in doubles:
                twice[name] = value.to(wanted[doubles[name]].dtype)
            elif not wanted[name].is_meta:
                wanted[name].copy_(value)
    for name, value in twice.items():
        if not torch.equal(value, wanted[doubles[name]]):
            raise CheckpointError(
                f"{', '.join(map(str, folders))}: config.json ties {name} to {doubles[name]}, but the weights of the "
                "two differ; set tie_word_embeddings to what the checkpoint was trained with"
            )


def second_names(model: nn.Module) -> dict[str, str]:
    """Further names of a weight that a model has twice: {name: the name it is filled under}. A tied head, for one."""
    first = {id(weight): name for name, weight in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return {name: first[id(weight)] for name, weight in every if first[id(weight)] != name}


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Everything of a model that a checkpoint holds, by name."""
    saved = model.state_dict()
    return dict(model.named_parameters()) | {name: held for name, held in model.named_buffers() if name in saved}


def check(model: nn.Module, folders: Sequence[Path], translate: Translate) -> None:
    """Do the headers of these folders name every tensor of the model once, in its shape?

    Raises:
        CheckpointError: as `fill`.
    """
    wanted, doubles = tensors(model), second_names(model)
    filled: set[str] = set()
    strangers: list[str] = []
    where = " + ".join(map(str, folders))
    for key, tensor in (entry for folder in folders for entry in headers(folder)):
        for name, value in translate(key, tensor).items():
            if name not in wanted and name not in doubles:
                strangers.append(key)
            elif name in filled:
                raise CheckpointError(f"{where}: {key} fills {name} a second time")
            elif (shape := wanted[doubles.get(name, name)].shape) != value.shape:
                raise CheckpointError(
                    f"{where}: {key} has shape {tuple(value.shape)}, {name} needs {tuple(shape)}; "
                    "config.json and weights do not belong together"
                )
            else:
                filled.add(name)
    missing = sorted(set(wanted) - filled)  # a double may be left out
    if strangers or missing:
        raise CheckpointError(
            f"{where}: {len(strangers)} key(s) belong nowhere{_some(strangers)}; "
            f"{len(missing)} weight(s) are missing{_some(missing)}"
        )


def _some(names: list[str]) -> str:
    return f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else ""
