"""What is said at the end."""

from dataclasses import asdict
from textwrap import shorten
from typing import Any

from tests.faults.driver import Outcome

SHOWN = 20

_TITLES = {
    "clients": "kill -9 of client processes under load",
    "servers": "kill -9 of the database server (postmaster) under load",
}
NOT_TESTED = (
    "Not tested: power loss and disk faults (a killed process leaves the page cache behind),"
    " fail-over to a replica, expiry at the moment of a kill."
)


def as_text(outcome: Outcome) -> str:
    """A page for people."""
    verdict = outcome.verdict
    rows: list[tuple[str, str]] = [
        ("kills", f"{outcome.kills}"),
        ("commands", f"{verdict.intents:,}"),
        ("acknowledged", f"{verdict.acknowledged:,}"),
        (
            "outcome unknown",
            f"{verdict.unknown:,}, of these {verdict.unknown_committed:,} had been committed",
        ),
        ("answers asked for again", f"{verdict.repeated:,}"),
        ("the engine said", _troubles(outcome)),
        ("movements, reservations", f"{verdict.movements:,}, {verdict.reservations:,}"),
        ("lost", f"{verdict.count('lost')}"),
        ("doubled", f"{verdict.count('doubled')}"),
        ("other differences", f"{verdict.count('differs')}"),
        ("verify", verdict.verify),
        ("server accepts again after", _quantiles(outcome.recovery_s)),
        ("next answer after", _quantiles(outcome.silence_s)),
        ("seconds", f"{outcome.duration_s:.0f}"),
        ("seed", f"{outcome.seed}"),
    ]
    lines = [_TITLES[outcome.name]]
    lines += [f"  {name:<40}{value}" for name, value in rows if value]
    findings = verdict.findings
    lines += [
        f"  {kind.upper()} {subject}: {shorten(text, 300, placeholder=' …')}"
        for kind, subject, text in findings[:SHOWN]
    ]
    if len(findings) > SHOWN:
        lines.append(f"  … and {len(findings) - SHOWN} more")
    if outcome.ok and outcome.kills:
        lines.append(
            f"  0 of {outcome.kills} kills lost or doubled anything: with 95 % confidence fewer"
            f" than {bound(outcome.kills):.2%} of such kills do."
        )
    return "\n".join(lines)


def as_data(outcome: Outcome) -> dict[str, Any]:
    """The same for programs."""
    verdict = outcome.verdict._asdict()
    findings = verdict.pop("findings")
    data = {key: value for key, value in asdict(outcome).items() if key != "verdict"}
    return {
        **data,
        **verdict,
        "ok": outcome.ok,
        "lost": outcome.verdict.count("lost"),
        "doubled": outcome.verdict.count("doubled"),
        "differs": outcome.verdict.count("differs"),
        "upper_bound_95": bound(outcome.kills) if outcome.ok and outcome.kills else None,
        "findings": [finding._asdict() for finding in findings],
    }


def bound(trials: int) -> float:
    """95 % upper bound of a rate of which `trials` trials showed no case."""
    return min(1.0, 3 / trials)


def quantile(values: list[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def _quantiles(values: list[float]) -> str:
    if not values:
        return ""
    p50, p95 = quantile(values, 0.5), quantile(values, 0.95)
    return f"p50 {p50:.2f} s, p95 {p95:.2f} s, max {max(values):.2f} s"


def _troubles(outcome: Outcome) -> str:
    return ", ".join(f"{code} {count:,} times" for code, count in sorted(outcome.troubles.items()))
