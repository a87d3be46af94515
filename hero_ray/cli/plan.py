"""What a sweep would do, without doing it: the verb `plan`, `sweep --dry-run` and `nightly --dry-run`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hero_ray.cli import app
from hero_ray.cli.options import Assign, Db, Limit
from hero_ray.cli.show import Answer, Form, show
from hero_ray.cli.sweep_options import (
    BatchSize,
    Budgets,
    Config,
    Gpus,
    Methods,
    Models,
    OnCard,
    Replicas,
    Tasks,
    configured,
    url_of,
)
from hero_ray.core import hub
from hero_ray.core.errors import ConfigError


def show_plan(
    config: Any,
    url: str,
    margin: float | None = None,
    power: float = 0.8,
    card: str | None = None,
    form: str | None = None,
) -> None:
    """Print a plan, from weights and data where they are at hand, else from configurations alone; nothing is written.

    Args:
        margin: in points; also says how many pictures a verdict at it needs.
        card: what it is forecast for, instead of this machine; a sweep there takes a GPU a replica.

    Raises:
        InputError: neither can be planned.
        StoreError: a run could not write the database.
    """
    from hero_ray.store.engine import check_sqlite_path, parse_url

    check_sqlite_path(parse_url(url), read_only=False, must_exist=False)
    lines, record = _planned(config, url, margin, power, card)
    show(Answer(lines, record=record), form)


def _planned(
    config: Any, url: str, margin: float | None, power: float, card: str | None
) -> tuple[list[str], dict[str, Any]]:
    from hero_ray.core.errors import CheckpointError, DatasetError, InputError, MissingExtraError
    from hero_ray.costs import cards
    from hero_ray.pipeline.downloads import described, to_fetch
    from hero_ray.pipeline.facts import make_plan
    from hero_ray.pipeline.forecast import counts, describe_needs, describe_plan

    on = None if card is None else cards.card(card)
    if on is not None:
        config = config.model_copy(update={"gpus_per_replica": config.gpus_per_replica or 1.0})
    try:
        with hub.looking():  # a plan fetches no weights and no data
            made = make_plan(config)
            needed = [] if margin is None else describe_needs(made, url, margin, power)
            return [describe_plan(made, url, card=on), *needed], counts(made)
    except (CheckpointError, DatasetError, MissingExtraError) as missing:
        sizes = described(to_fetch(config))
        try:
            plan = make_plan(config, at_hand=False)
        except InputError:
            typer.echo("\n".join(sizes), nl=bool(sizes))
            raise missing from None  # the sizes are not known either
        needed = [] if margin is None else ["how many pictures a verdict needs is not known without the data"]
        return [describe_plan(plan, url, str(missing).partition(" (")[0], on), *sizes, *needed], counts(plan)


@app.command()
def plan(
    config: Config = None,
    models: Models = None,
    methods: Methods = None,
    budgets: Budgets = None,
    tasks: Tasks = None,
    limit: Limit = None,
    assign: Assign = None,
    db: Db = None,
    margin: Annotated[
        float | None, typer.Option("--margin", help="Also: pictures that a verdict at so many points needs.")
    ] = None,
    power: Annotated[float, typer.Option("--power", help="Chance with which it shall be shown, with --margin.")] = 0.8,
    batch_size: BatchSize = None,
    replicas: Replicas = None,
    gpus_per_replica: Gpus = None,
    card: OnCard = None,
    form: Form = None,
) -> None:
    """Show what a sweep file would do: cells, pictures, encodes saved, forecast. Like `sweep --dry-run`.

    A panel is one, too: `hero-ray plan nightly`, or `hero-ray nightly --dry-run`.
    """
    if margin is not None and not (0 < margin < 100 and 0 < power < 1):
        raise ConfigError(f"--margin {margin:g} --power {power:g}: expected points within 0 to 100 and a share of 1")
    built = configured(
        config,
        assign,
        models=models,
        methods=methods,
        budgets=budgets,
        tasks=tasks,
        limit=limit,
        batch_size=batch_size,
        replicas=replicas,
        gpus_per_replica=gpus_per_replica,
        db=db,
    )
    show_plan(built, url_of(built), margin, power, card, form)
