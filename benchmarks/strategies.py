"""Every strategy on several data sets: accuracy, seconds, trainable parameters.

    python benchmarks/strategies.py elpv DATA --out comparisons/strategies

Few images and small ones, so that all of it takes about 40 minutes on two cores: 25 training
images a class, 128 pixels, two seeds, one split. What a strategy reaches on more images may rank
otherwise. Give the same command again and it goes on where it stopped; docs/strategies.md holds
what it writes to OUT/strategies.md.
"""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path

import headstart
from headstart.console import talk
from headstart.strategy.names import NAMES

# Every name that has one, with its number filled in; layers are counted like stages. Not those that
# choose of the others: auto's or a table's choice is another row, and BiT's steps take hours.
FILLED = {"last-blocks:N": "last-blocks:2", "freeze-first:N": "freeze-first:3"}
LEFT_OUT = ("auto", "freeze-first:Nlayers", "table:LOW-HIGH", "bit")
STRATEGIES = tuple(FILLED.get(name, name) for name in NAMES if name not in LEFT_OUT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("comparisons/strategies"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--per-class", type=int, default=25)
    parser.add_argument("--size", type=int, default=128)
    arguments = parser.parse_args()
    day = datetime.now(UTC).date().isoformat()
    lines = [
        f"{arguments.per_class} training images a class, {arguments.size} pixels, seeds 0 to "
        f"{arguments.seeds - 1} on one split, {os.cpu_count()} CPU cores, {day}.",
    ]
    for data in arguments.data:
        comparison = headstart.compare(
            data,
            strategies=STRATEGIES,
            seeds=arguments.seeds,
            out=arguments.out / Path(data).name,
            listener=told,
            limit_per_class=arguments.per_class,
            size=arguments.size,
        )
        lines += ["", f"## {Path(data).name}", "", *table(comparison)]
    text = "\n".join(lines) + "\n"
    (arguments.out / "strategies.md").write_text(text, encoding="utf-8")
    print(text)


def table(comparison: headstart.Comparison) -> list[str]:
    """Return a Markdown table, the best on val first, and the verdicts against extraction."""
    n = comparison.rows[0].accuracy.n if comparison.rows[0].accuracy else 0
    lines = [
        f"Judged on {n} test images.",
        "",
        "| strategy | test accuracy, 95 % interval | seconds a run | trainable | total |",
        "|---|---|---|---|---|",
    ]
    for group in comparison.by_val:
        accuracy = group.accuracy
        lines.append(
            f"| `{group.strategy}` | {accuracy.value:.3f} ({accuracy.low:.3f} to "
            f"{accuracy.high:.3f}) | {group.seconds:.0f} | {group.trainable:,} | {group.total:,} |"
        )
    verdicts = [pair.verdict for pair in comparison.pairs if "feature-extraction" in pair.verdict]
    return [*lines, "", *(f"- {verdict}" for verdict in verdicts)]


def told(event: dict[str, object]) -> None:
    if event["event"] == "run":
        talk(f"{event['number']} of {event['of']}: {event['strategy']}, seed {event['seed']}")


if __name__ == "__main__":
    main()
