"""The figures of a cross-validation as a person reads them."""

from __future__ import annotations

from typing import Any

from training.crossval.report import BLEND, STACKED


def text(found: dict[str, Any]) -> str:
    """What ``cross-validate`` prints."""
    if "missing folds" in found:
        missing = ", ".join(map(str, found["missing folds"]))
        return f"{found['run']}: still to be trained: fold {missing} (--fold N, or all without it)"
    sections = [_scores(found), _mixes(found), _slices(found), _bias(found), _leaks(found), _paste(found)]
    return "\n\n".join("\n".join(section) for section in sections if section)


def _scores(found: dict[str, Any]) -> list[str]:
    scores = found["scores"]
    wide = max(map(len, scores))
    lines = [
        f"{found['run']}: {found['questions']:,} questions in {len(found['folds'])} folds, "
        f"chance {found['chance']:.3f}",
        "",
        f"{'MAP@3':<{wide}}  {'all folds':<22}accuracy  log loss",
    ]
    for name, score in scores.items():
        rest = f"{score['accuracy']:>8.3f}{score['log loss']:>10.3f}"
        lines.append(f"{name:<{wide}}  {_interval(score['map@3']):<22}{rest}")
    lines += ["", "MAP@3 by fold (questions):"]
    for fold, count in enumerate(found["folds"]):
        each = "  ".join(f"{name} {_interval(score['folds'][fold])}" for name, score in scores.items())
        lines.append(f"fold {fold} ({count:,}): {each}")
    return lines


def _interval(score: dict[str, float]) -> str:
    return f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def _mixes(found: dict[str, Any]) -> list[str]:
    mix = found["weights"]
    weights = ", ".join(f"{name} {weight:.3f}" for name, weight in mix["weights"].items())
    lines = [f"weights of the {BLEND}: {weights}"]
    if mix["refused"]:
        lines.append(f"not fitted: {mix['refused']}")
    elif mix["fitted against equal"]:
        lines += [
            f"fitted; held-out MAP@3 less that of equal weights: {mix['fitted against equal']}",
            f"  and log loss, which decides where MAP@3 cannot: {mix['log loss of fitted against equal']}",
        ]
    if "against those of the solution" in mix:
        lines.append(f"MAP@3 less that of the solution's weights: {mix['against those of the solution']}")
    if stack := found["stack"]:
        better = "better" if stack["better"] else "no better"
        lines.append(
            f"{STACKED} ({stack['kind']}): {better} than equal weights: {stack['against equal weights']}"
        )
    return lines


def _slices(found: dict[str, Any]) -> list[str]:
    return [
        f"slices of the {BLEND}: questions, MAP@3, that of the rest, p by Holm",
        *(each["text"] for each in found["slices"]),
    ]


def _bias(found: dict[str, Any]) -> list[str]:
    return [f"positions, {BLEND}:", found["position bias"][BLEND]["text"]]


def _leaks(found: dict[str, Any]) -> list[str]:
    leaks = found["leaks"]
    lines = [
        f"leaks: {leaks['near-duplicates']:,} near-duplicates ({leaks['contradicting']:,} contradict), "
        f"{leaks['between folds']:,} of them between folds"
    ]
    return [*lines, *(["note: " + note for note in leaks["notes"]]), *filter(None, [leaks["text"]])]


def _paste(found: dict[str, Any]) -> list[str]:
    if "solution" in found:
        path = found["solution"]
        return [
            f"{path}: python -m inference submit --config {path} --questions TEST --out submission.csv",
            "  (with --index INDEX, or --contexts-file of TEST, where its rankers read contexts)",
        ]
    return ["for solution.yaml (--final trains on all questions, and writes it):", *found["paste"]]


def dry_text(found: dict[str, Any]) -> str:
    sizes = ", ".join(f"{count:,}" for count in found["folds"])
    lines = [f"folds of {sizes} questions; {found['near-duplicates']:,} near-duplicates stay together"]
    lines += ["note: " + note for note in found["notes"]]
    lines += [f"{name}: about {seconds / 60:.0f} minutes" for name, seconds in found["seconds"].items()]
    minutes = sum(found["seconds"].values()) / 60
    return "\n".join([*lines, f"{found['runs']} runs, about {minutes:.0f} minutes. Nothing was kept."])
