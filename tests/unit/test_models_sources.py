"""From a name to a folder: the hub is played by a stand-in, since no test may need the network."""

from types import SimpleNamespace

import huggingface_hub
import pytest

from hero_ray.core.errors import CheckpointError, UnknownNameError
from hero_ray.models.registry import SPECS
from hero_ray.models.sources import find_folder


class Hub:
    """Snapshots by (id, revision), and the conversion bot's offers."""

    def __init__(self, root, snapshots, offers=()):
        self.root, self.snapshots, self.offers, self.asked = root, snapshots, offers, []

    def repo_info(self, source, repo_type, timeout):
        return SimpleNamespace(sha="main")

    def snapshot_download(self, source, allow_patterns, revision="main"):
        self.asked.append((source, revision, [allow_patterns] if isinstance(allow_patterns, str) else allow_patterns))
        if (source, revision) not in self.snapshots:
            raise FileNotFoundError(f"{source} is not on the hub\nsecond line")
        folder = self.root / f"{source}-{revision}".replace("/", "_")
        folder.mkdir(exist_ok=True)
        for name in self.snapshots[source, revision]:
            (folder / name).write_text('{"model_type": "llava_next"}' if name == "config.json" else "")
        return str(folder)

    def get_repo_discussions(self, source, author, discussion_type):
        return iter([offer for offer in self.offers if offer.author == author])


def play(monkeypatch, tmp_path, snapshots, offers=()):
    hub = Hub(tmp_path, snapshots, offers)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    return hub


def offer(author, title="Adding `safetensors` variant of this model", reference="refs/pr/7"):
    return SimpleNamespace(author=author, title=title, git_reference=reference)


def test_a_name_is_fetched_by_its_hub_id_without_pickles_or_code(monkeypatch, tmp_path):
    source = SPECS["llava-next-7b"].source
    hub = play(monkeypatch, tmp_path, {(source, "main"): ["config.json", "model.safetensors"]})
    assert (find_folder("llava-next-7b") / "model.safetensors").is_file()
    assert [(asked, revision) for asked, revision, _ in hub.asked] == [(source, "main")] * 2
    patterns = [pattern for _, _, wanted in hub.asked for pattern in wanted]
    assert patterns[0] == "config.json"
    assert not any(pattern.endswith((".bin", ".py", ".pt", ".pth")) or pattern == "*" for pattern in patterns)


def test_the_bots_conversion_is_taken_where_main_holds_pickles_only(monkeypatch, tmp_path):
    snapshots = {("org/clip", "main"): ["config.json"], ("org/clip", "refs/pr/7"): ["config.json", "model.safetensors"]}
    offers = [
        offer("stranger", reference="refs/pr/3"),
        offer("SFconvertbot", "Fix typo", "refs/pr/5"),
        offer("SFconvertbot"),
    ]
    play(monkeypatch, tmp_path, snapshots, offers)
    assert (find_folder("org/clip") / "model.safetensors").is_file()


def test_pickles_without_a_conversion_are_refused(monkeypatch, tmp_path):
    play(monkeypatch, tmp_path, {("org/clip", "main"): ["config.json"]}, [offer("stranger")])
    with pytest.raises(CheckpointError, match="pickles only"):
        find_folder("org/clip")


def test_a_failed_download_is_one_clear_line(monkeypatch, tmp_path):
    play(monkeypatch, tmp_path, {})
    with pytest.raises(CheckpointError, match="is not on the hub") as caught:
        find_folder("org/none")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["lava", "a/b/c", "", "org/"])
def test_what_is_no_name_no_folder_and_no_id_is_refused(name):
    with pytest.raises(UnknownNameError):
        find_folder(name)


def test_a_local_folder_is_taken_as_it_is(tmp_path):
    assert find_folder(str(tmp_path)) == tmp_path


def test_a_foreign_configuration_is_refused_before_anything_else_is_fetched(monkeypatch, tmp_path):
    hub = play(monkeypatch, tmp_path, {("org/model", "main"): ["config.json", "model.safetensors"]})
    monkeypatch.setattr(
        "hero_ray.models.sources.read_config", lambda folder: {"model_type": "qwen3_vl_moe"}, raising=True
    )
    with pytest.raises(CheckpointError, match="org/model: model_type is 'qwen3_vl_moe'"):
        find_folder("org/model")
    assert [patterns for _, _, patterns in hub.asked] == [["config.json"]]
