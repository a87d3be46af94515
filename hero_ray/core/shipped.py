"""Files that travel with the package but are no modules: sweep files, migrations, the dashboard.

A checkout has them beside the package. An installed wheel has them inside it, under `_shipped` (force-include in
pyproject.toml), so that nothing outside the package is ever taken for them.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from hero_ray.core.errors import ConfigError

PACKAGE = Path(__file__).resolve().parents[1]
INSIDE = PACKAGE / "_shipped"
CONFIGS = "configs"


def checkout() -> Path | None:
    """Root of the checkout that the package is imported from; None where it is installed from a wheel."""
    return None if INSIDE.is_dir() else PACKAGE.parent


def folder(name: str) -> Path:
    """Where `configs`, `db`, `dashboard` or the lock `constraints.txt` lies, whether or not it is there."""
    return (checkout() or INSIDE) / name


def sweep_files() -> dict[str, Path]:
    """Shipped sweep files by name: `demo`, `nightly`, `paper/hero-table-5`, `paper/offline/...`, sorted."""
    root = folder(CONFIGS)
    files = {path.relative_to(root).with_suffix("").as_posix(): path for path in root.rglob("*.yaml")}
    return {name: files[name] for name in sorted(files) if not name.startswith("presets/")}


def sweep_file(asked: str | Path) -> Path:
    """A sweep file: a path if there is a file at it, else a shipped one by its name or by its path in a checkout.

    `demo`, `demo.yaml` and `configs/demo.yaml` are the same shipped file, wherever the package is installed.

    Raises:
        ConfigError: neither.
    """
    if Path(asked).is_file():
        return Path(asked)
    shipped = sweep_files()
    name = str(asked).removeprefix(f"{CONFIGS}/").removesuffix(".yaml")
    if name in shipped:
        return shipped[name]
    close = difflib.get_close_matches(name, shipped, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ConfigError(
        f"no sweep file at {str(asked)!r}; give a YAML file or one that is shipped.{hint} Shipped: {', '.join(shipped)}"
    )
