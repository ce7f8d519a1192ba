"""A trained ranker as a teacher: where it is, and whether a student can learn the vectors of its options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kaggle_rag.models.card import CARD, RankerCard, require_base
from kaggle_rag.models.checkpoints import attached, resolve
from kaggle_rag.runtime.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from training.rankers.settings import RankerRun

_WHERE = "teacher_ranker"
_ALONE = "learn its probabilities alone: teacher, a predictions file that it wrote"


def teacher_folder(name: str) -> Path:
    """The folder of a trained ranker, here or among the attached inputs.

    Raises
    ------
    CheckpointError : there is none of that name, or it is no trained ranker.
    """
    folder = Path(name).expanduser()
    if not (folder / CARD).is_file():
        folder = next(attached(name, CARD), folder)
    if not (folder / CARD).is_file():
        what = "this folder is no trained ranker" if folder.is_dir() else "no such ranker on this machine"
        raise CheckpointError(
            what, where=f"{_WHERE}: {name}",
            expected=f"a folder with {CARD}, as python -m training writes it",
            cure="check the path, or train it first",
        )  # fmt: skip
    return folder


def require_teacher(settings: RankerRun) -> None:
    """Raise ``KitError`` unless student and teacher have vectors of options that can be compared.

    Reads what describes both, and no weights but for their checksums.
    """
    if not settings.teacher_ranker:
        return
    folder = teacher_folder(settings.teacher_ranker)
    card = RankerCard.read(folder)
    if card.base:
        require_base(card.base, card)
    backbone = resolve(card.base).path if card.base else folder
    teacher = _Side("the teacher", card.form, bool(card.marginal), backbone)
    apart = settings.marginal.kind != "none"
    student = _Side("this ranker", settings.form, apart, resolve(settings.model).path)
    of_teacher, of_student = teacher.vector(), student.vector()
    if of_teacher != of_student:
        raise ConfigError(
            f"an option of the form {card.form} has {of_teacher}, one of the form {settings.form} has "
            f"{of_student}", where=_WHERE, expected="a teacher and a student that answer alike",
            cure=f"set form: {card.form}, or {_ALONE}",
        )  # fmt: skip
    if teacher.width != student.width:
        raise ConfigError(
            f"the teacher's vectors are of width {teacher.width:,}, those of {settings.model} of width "
            f"{student.width:,}", where=_WHERE, expected="two backbones of the same width (hidden_size)",
            cure=f"choose a model of width {teacher.width:,}, or {_ALONE}",
        )  # fmt: skip


class _Side:
    """Teacher or student: how messages call it, its form, whether it reads snippets apart, its backbone."""

    def __init__(self, who: str, form: str, apart: bool, backbone: Path) -> None:
        from kaggle_rag.models.description import config_of

        self.who, self.form, self.apart, self.config = who, form, apart, config_of(backbone)

    @property
    def width(self) -> int:
        return int(self.config.hidden_size)

    def vector(self) -> str:
        """What an option's vector is; raise ``ConfigError`` if it has none."""
        from kaggle_rag.models.answering.forms import family_of, form_of

        family = family_of(self.config)
        found = form_of(self.form, family).option_vector
        if found and not self.apart:
            return found
        reason = "reads snippets apart (marginal)" if self.apart else f"is of the form {self.form}"
        raise ConfigError(
            f"{self.who} has no vector of an option: it {reason}, its backbone of the family {family}",
            where=_WHERE, cure=_ALONE,
            expected="encoders in the form choice, bi-encoder, binary or reward, without marginal",
        )  # fmt: skip
