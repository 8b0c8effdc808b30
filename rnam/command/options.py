"""`main`: the arguments of the commands, and the exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rnam._version import __version__

__all__ = ["main"]

REFUSED, INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0; 1 where the input is refused, which is told on stderr; 130 after Ctrl-C. Wrong arguments exit with 2.
    """
    given = _parser().parse_args(arguments)
    try:
        if given.command == "report":
            from rnam.command import report  # they take the extra `report`

            report.run(given)
        else:
            from rnam.command import predict

            predict.run(given)
    except (ValueError, OSError) as error:
        return _refused(given.command, str(error))
    except ImportError as error:
        return _refused(given.command, f"{error}; pip install 'rnam[report]'")
    except KeyboardInterrupt:
        print(f"\nrnam {given.command}: stopped, and nothing more was written", file=sys.stderr)
        return INTERRUPTED
    return 0


def _refused(command: str, why: str) -> int:
    print(f"rnam {command}: {why}", file=sys.stderr)
    return REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m rnam", description="Additive models over time, from a file of visits.")
    parser.add_argument("--version", action="version", version=f"rnam {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    report = commands.add_parser(
        "report", help="train a model and write a page about it",
        description="Train a model from a table with a row for each visit. Write a page about it, and beside it the "
        "model, with the ending .rnam.",
    )  # fmt: skip
    report.add_argument("file", help="CSV (.csv, .tsv, .txt) or Parquet (.parquet), a row for each visit")
    report.add_argument("--id", required=True, help="the column that says who was seen")
    report.add_argument("--time", required=True, help="the column that says when: numbers or dates")
    report.add_argument("--target", required=True, help="the column that is predicted")
    report.add_argument("--out", required=True, help="the page, .html")
    report.add_argument(
        "--at", choices=["visit", "id"], help="the target is of each visit, or of each id; else guessed"
    )
    told = "classes or numbers; else guessed"
    report.add_argument("--task", choices=["classify", "regress", "survival"], help=told)
    report.add_argument("--output", help="of three classes or more, the one that the page explains")
    for name, what in (
        ("values", "numbers of visits"), ("categories", "levels"), ("static", "what an id has once"),
        ("ignore", "not read"),
    ):  # fmt: skip
        report.add_argument(f"--{name}", nargs="+", action="extend", default=[], metavar="COLUMN", help=f"are {what}")
    report.add_argument("--time-unit", choices=["year", "week", "day", "hour", "minute", "second"], help="of dates")
    report.add_argument("--title", help="of the page")
    report.add_argument("--held-out", type=float, default=0.2, help="share of the ids that is explained (0.2)")
    report.add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")
    report.add_argument("--members", type=int, default=5, help="models that are trained, for bands (5)")
    report.add_argument("--epochs", type=int, help="of the training")
    predict = commands.add_parser(
        "predict", help="predict by a model that was saved",
        description="Predict by a model that was saved. The table has the columns of the training; the target may be "
        "left out.",
    )  # fmt: skip
    predict.add_argument("model", help="the folder, .rnam")
    predict.add_argument("file", help="CSV or Parquet, as in the training")
    predict.add_argument("--out", required=True, help="the predictions, .csv")
    predict.add_argument("--unseen", choices=["refuse", "missing"], default="refuse", help="levels that are new")
    for command in (report, predict):
        command.add_argument("--separator", help="of the cells of a CSV file; else guessed")
        command.add_argument("--decimal", choices=[".", ","], default=".", help="point or comma of a CSV file")
        command.add_argument("--encoding", default="utf-8-sig", help="of a CSV file (UTF-8)")
        command.add_argument("--date-format", help="of dates that are not like 2020-12-31, such as %%d.%%m.%%Y")
        command.add_argument("--overwrite", action="store_true", help="replace files that are there")
        command.add_argument("--quiet", action="store_true", help="say nothing but errors")
    return parser
