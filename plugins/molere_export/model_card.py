"""What is said of an exported classifier: data, command, results, and what it is not for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from huggingface_hub import ModelCard, ModelCardData

from molere_cli import MolereError, PretrainedInput
from molere_cli.commands import AVERAGE_SUFFIX, harmless
from molere_cli.report import RunDir, compare_runs, find_runs, render

MOST_CLASSES = 50
RESIZED = {
    "squash": "all of it is brought to that size, its sides stretched",
    "center": "its shorter side is brought to that size, and the middle is cut out",
    "border": "its longer side is brought to that size, with a border around it",
}


def _sized(taken: PretrainedInput) -> str:
    larger = f", enlarged so that the middle {100 * taken.crop_share:g}% of a side are kept"
    return f"{RESIZED[taken.crop_mode]}{larger if taken.crop_share < 1 else ''}"


def model_card(
    run: RunDir,
    backbone: str,
    class_names: Sequence[str],
    taken: PretrainedInput,
    *,
    average: bool,
    loading: str,
    library: str | None,
) -> str:
    """The card as Markdown with the Hub's metadata.

    Args:
        average: whether it is the moving average of the weights that trained.
        loading: code that loads the classifier. library: the one that does so by itself, as the Hub calls it.

    Raises:
        RunError: the run cannot be read.
    """
    config, environment, results = run.config(), run.environment(), run.metrics()[-1]
    height, width = taken.image_size
    shown = [f"`{_plain(name)}`" for name in class_names[:MOST_CLASSES]]
    more = f" and {len(class_names) - MOST_CLASSES:,} more" if len(class_names) > MOST_CLASSES else ""
    accuracies = [
        f"- `{_plain(name)}`: accuracy {100 * accuracy:.2f}%{_worst(results, name)}"
        for name in _test_sets(results)
        if name.endswith(AVERAGE_SUFFIX) == average
        and isinstance(accuracy := results[f"{name}/accuracy"], float)
    ]
    averaged = " Its weights are the moving average of those that trained." if average else ""
    text = f"""# {_plain(str(environment["label"]))} on {_plain(config["dataset"])}

An image classifier, `{_plain(backbone)}`, trained by [MOLERE](https://arxiv.org/abs/2403.12236).{averaged}

- Classes ({len(class_names):,}): {", ".join(shown)}{more}.
- Trained on {environment["num_pool"]:,} images of `{_plain(config["dataset"])}`, with seed {config["seed"]};
  their fingerprint is `{environment["fingerprint"]}`.
- Input: {height} x {width} pixels; of another picture {_sized(taken)}. RGB in [0, 1], less
  {_listed(taken.mean)}, over {_listed(taken.std)}.
- Command: `{_plain(str(environment["command"]))}`

```python
{loading}
```

## Results

{chr(10).join(accuracies)}

{_table(run, average=average)}

One number of one seed says little; where the table has an interval, it is over seeds.

## What it is not for

- Anything that is none of its classes: it will name one of them all the same.
- Pictures taken in another way, at another place or time than those it was trained on. The accuracies above
  say nothing of them; test on your own (`molere eval RUN --on folder:DIR`).
- Decisions about people, or where a mistake does harm, without a test on the people and cases concerned,
  group by group.
"""
    data = ModelCardData(library_name=library, tags=["image-classification", "molere"])
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n{text}"))


def _table(run: RunDir, *, average: bool) -> str:
    """The rows of `molere compare` that this run is in, against ERM, from the runs beside it."""
    try:
        found = compare_runs(find_runs(run.path.parent), test_set=None)
    except MolereError:
        return "There is no comparison with ERM beside the run."
    place = run.path.resolve()
    own = [
        result
        for result in found.results
        if result.test_set.endswith(AVERAGE_SUFFIX) == average
        and any(record.path.resolve() == place for record in result.row.runs.values())
    ]
    rows = {id(result.row) for result in own} | {id(result.baseline) for result in own}
    sets = {result.test_set for result in own}
    kept = [result for result in found.results if id(result.row) in rows and result.test_set in sets]
    return render(replace(found, results=kept), "markdown")


def _test_sets(results: dict[str, object]) -> list[str]:
    names = [key.removesuffix("/accuracy") for key in results if key.endswith("/accuracy")]
    return [name for name in names if name != "train"]


def _worst(results: dict[str, object], name: str) -> str:
    for kind in ("worst_group", "worst_class"):
        if isinstance(value := results.get(f"{name}/{kind}"), float):
            return f", {kind.replace('_', ' ')} {100 * value:.2f}%"
    return ""


def _plain(text: str) -> str:
    """Without what would end code in Markdown, or steer a terminal."""
    return harmless(text).replace("`", "'")


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
