"""The scores in words: a column for each seed."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from examples.plasmode.evaluation import ASKED, NOMINAL, Result

NAMES = {"truth": "true probabilities", "full": "RNAM", "last": "RNAM on last values"}


def table(results: Sequence[Result]) -> str:
    """Scores, recovery and coverage, a column for each seed and one for what is asked."""
    first = results[0]
    lines = [_line("seed", [str(r.seed) for r in results], "asked"), "AUC"]
    lines += [_line(f"  {NAMES.get(m, m)}", [f"{r.auc[m]:.4f}" for r in results]) for m in first.auc]
    lines += [_line("  RNAM - on last values", [f"{r.recurrence:.4f}" for r in results], f">= {ASKED['recurrence']}")]
    lines += ["Brier skill"]
    lines += [_line(f"  {NAMES.get(m, m)}", [f"{r.brier_skill[m]:.3f}" for r in results]) for m in first.brier_skill]
    lines += [_line("Calibration slope, RNAM", [f"{r.slope['full']:.2f}" for r in results])]
    lines += ["Correlation with the truth"]
    for name in first.correlations:
        asked = f">= {ASKED[name]}" if name in ASKED else ""
        lines.append(_line(f"  {name}", [f"{r.correlations[name]:.3f}" for r in results], asked))
    lines += ["sbp never measured, log-odds"]
    lines += [_line(f"  {kind}", [f"{r.missing[kind]:.2f}" for r in results]) for kind in first.missing]
    lines += [_line("  error", [f"{r.missing_error:.2f}" for r in results], f"<= {ASKED['missing']}")]
    lines += ["Idle terms, share of the variance"]
    lines += [_line(f"  {n}", [f"{r.idle[n]:.4f}" for r in results], f"<= {ASKED['idle']}") for n in first.idle]
    lines += [f"Truth within the refit spread's interval of nominal {NOMINAL:.0%}"]
    for name in first.coverage:
        covered = [r.coverage[name] for r in results]
        lines.append(_line(f"  {name}", [f"{share:.2f}" for share in covered], f"mean {fmean(covered):.2f}"))
    return "\n".join(lines)


def _line(name: str, cells: Sequence[str], asked: str = "") -> str:
    return f"{name:<32}{''.join(f'{cell:>9}' for cell in cells)}{asked:>12}".rstrip()
