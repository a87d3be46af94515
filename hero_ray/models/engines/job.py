"""The engine a model is loaded for: refused before a weight is read, started once the tower stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hero_ray.core.engine_args import EngineArgs
from hero_ray.core.engines import OURS, VLLM, engine_of, vllm_version
from hero_ray.core.errors import ParameterError
from hero_ray.models.build import META
from hero_ray.models.engines.installed import hindrances, is_plugin
from hero_ray.models.job import Target
from hero_ray.models.supported import check_for_vllm

if TYPE_CHECKING:
    from hero_ray.models.family import FamilyAdapter

BLOCKS = "model.language_model.layers"


@dataclass(frozen=True)
class EngineJob:
    """One engine to be started: `asked` is `ours`, `vllm` or `auto`, `folder` the checkpoint's."""

    asked: str
    settings: EngineArgs
    folder: Path | None

    @classmethod
    def of(
        cls,
        asked: str,
        settings: Any,
        name: str,
        folder: Path | None,
        config: Mapping[str, Any],
        target: Target,
        graphs: bool = False,
    ) -> EngineJob:
        """Checked against the model it is for.

        Raises:
            ParameterError: an engine nobody knows, settings for none, or a model that vLLM is not handed.
            CheckpointError: quantised weights.
            MissingExtraError: vLLM is not installed.
        """
        found = EngineArgs.asked(engine_of({"engine": asked}), settings)
        if asked == OURS:
            return cls(OURS, found, folder)
        if graphs:
            raise ParameterError(f"graphs=True captures our own decode steps, not those of engine={asked}")
        vllm_version()
        if target.device == META:  # shapes alone: whoever checks settings starts no engine
            return cls(OURS, found, folder)
        if folder is None or name.endswith(":random"):
            raise ParameterError(f"engine={asked} reads weights from a folder, and {name} has none")
        check_for_vllm(config, folder)
        if wrong := hindrances():
            raise ParameterError(f"engine={asked} cannot start: {'; '.join(wrong)}")
        if found.devices > 1 and not is_plugin():
            raise ParameterError(
                f"engine={asked} over {found.devices} devices starts processes that would not know hero_ray's classes: "
                "this installation does not name them to vLLM. Install hero_ray into this environment again"
            )
        return cls(asked, found, folder)

    @property
    def unread(self) -> str:
        """The part of the model whose weights are not read: the blocks, where vLLM alone holds them."""
        return BLOCKS if self.asked == VLLM else ""

    def start(self, adapter: FamilyAdapter) -> None:
        """Put the engine behind an adapter.

        Raises:
            ReplicaError, DeviceMemoryError: vLLM does not start.
        """
        if self.asked == OURS:
            return
        assert self.folder is not None
        from hero_ray.models.engines import EitherEngine
        from hero_ray.models.engines.start import start_vllm

        started = start_vllm(adapter, self.folder, self.settings)
        if self.asked == VLLM:
            adapter.decoder, adapter.engine = None, started
        else:
            adapter.engine = EitherEngine(adapter.decoder, started)
        adapter.info = replace(adapter.info, engine=self.asked)
