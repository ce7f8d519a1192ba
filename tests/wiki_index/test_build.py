"""Builds that are interrupted, filled up, or pointed at the wrong place; an encoder of two layers."""

import dataclasses
import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from build_toys import call, names, plan_of, same
from conftest import ROWS
from filelock import FileLock
from killed import kill_build

from kaggle_rag.index.index import Index
from kaggle_rag.index.manifest import MANIFEST
from kaggle_rag.index.passages import Passage, write_shard
from kaggle_rag.runtime.errors import ArtifactError, ConfigError, InputError, run_program
from kaggle_rag.runtime.files import fields_sha256
from kaggle_rag.runtime.work_folder import LOCK
from kaggle_rag.text.units import Unit
from wiki_index import __main__ as program
from wiki_index.build import SETTINGS, build
from wiki_index.corpus import Corpus
from wiki_index.forecast import forecast
from wiki_index.plan import Plan
from wiki_index.readers.mediawiki import MediaWiki
from wiki_index.steps.split import SPLIT


@pytest.fixture
def plan(corpus, tiny, tmp_path):
    return Plan(Corpus.open(corpus), tmp_path / "out", {"minilm": tiny}, Unit("sentence"), shard_rows=ROWS)


def test_search_is_a_brute_force_over_all_shards(whole, tiny):
    index = Index(whole)
    queries = tiny.encode_queries([f"What holds {n} grams?" for n in range(30)])
    everything = np.load(whole / "dense/minilm/vectors.npy")
    assert len(everything) == len(index) == 360
    brute = ((queries.astype(float)[:, None] - everything[None]) ** 2).sum(axis=2)
    distances, rows = index.search(queries, 7)
    assert np.allclose(distances, np.sort(brute, axis=1)[:, :7], atol=1e-5)
    assert np.allclose(np.take_along_axis(brute, rows, axis=1), distances, atol=1e-5)
    assert np.array_equal(index.vectors(rows[0]), everything[rows[0]])
    assert index.search(queries[:1], 5000)[1].shape == (1, 360)


def test_interrupted_at_any_file_the_same_command_ends_with_the_same_bytes(
    plan, whole, tmp_path, monkeypatch
):
    """Ctrl-C at the first file, then at the second, ...: every run leaves one more behind."""
    real, done = Path.replace, []

    def replace(self, target):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(target)
        return real(self, target)

    runs = 0
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        while not plan.out.exists():
            runs, done[:] = runs + 1, []
            try:
                build(plan)
            except KeyboardInterrupt:
                assert not list(plan.work.rglob("*.part")) and not plan.out.exists()
    # settings, 4 shards of text, split.json, 4 marks of vectors, FAISS, its card, the manifest, the name.
    assert runs == 14 and same(plan.out, whole) and not plan.work.exists()


def test_killed_when_the_index_appears_the_same_command_ends_with_the_same_bytes(plan, whole):
    """The moments of test_index.py's kills are the shards'."""
    kill_build(plan, plan.work / "dense/minilm/index.faiss")
    build(plan)
    assert same(plan.out, whole) and not plan.work.exists()


def finished_but_for_its_name(plan):
    """What a kill between the last two steps of a build leaves: all but settings and the name."""
    build(plan)
    plan.out.rename(plan.work)


def test_killed_before_its_renaming_it_is_renamed(plan, whole):
    finished_but_for_its_name(plan)
    build(plan)
    assert same(plan.out, whole) and not plan.work.exists()


def test_killed_before_its_renaming_another_build_does_not_take_it_for_its_own(plan, tiny, tmp_path):
    finished_but_for_its_name(plan)
    other = plan_of(["Wood is soft. Air is thin."], tiny, tmp_path)
    with pytest.raises(ArtifactError, match="differs in corpus"):
        build(other)


@pytest.mark.parametrize("change", [{"title_in_text": True}, {"unit": Unit("article")}, {"language": "de"}])
def test_an_unfinished_build_with_other_settings_is_refused_and_untouched(change, plan):
    mark = plan.dense("minilm") / "encoded/00000"
    mark.parent.mkdir(parents=True)
    mark.touch()
    (plan.work / SETTINGS).write_text(json.dumps(plan.settings()))
    before = set(names(plan.work))
    with pytest.raises(ArtifactError, match="unfinished build already exists, and differs in"):
        build(Plan(**{**vars(plan), **change}))
    assert set(names(plan.work)) - {LOCK} == before


def test_a_build_stopped_before_its_first_vector_is_started_over_with_other_settings(plan, tiny, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps({"title": "Iron", "text": "It rusts. It is red."}) + '\n{"title": "Gold"}\n')
    with pytest.raises(InputError, match="'text' is missing"):
        build(dataclasses.replace(plan, corpus=Corpus.open(bad), shard_rows=1))
    assert list(plan.work.rglob("*.arrow"))
    build(plan)
    assert len(Index(plan.out)) == 360 and not plan.work.exists()


@pytest.mark.parametrize("content", ["theme: dark", "[1, 2]"])
def test_settings_of_another_program_are_refused_and_untouched(content, plan):
    plan.work.mkdir()
    (plan.work / SETTINGS).write_text(content)
    with pytest.raises(ArtifactError, match="something else"):
        build(plan)
    assert (plan.work / SETTINGS).read_text() == content


def test_behind_a_link_the_folder_itself_is_built_and_the_root_of_a_disk_is_refused(plan, whole, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    build(dataclasses.replace(plan, out=tmp_path / "link"))
    assert same(tmp_path / "real", whole) and (tmp_path / "link").is_symlink()
    with pytest.raises(ConfigError, match="root of a disk"):
        build(dataclasses.replace(plan, out=Path("/")))
    with pytest.raises(ConfigError, match="ISO 639"):
        build(dataclasses.replace(plan, language="klingon"))


def test_two_builds_in_one_place_at_once_are_refused(plan):
    plan.work.mkdir()
    with FileLock(plan.work / LOCK), pytest.raises(ArtifactError, match="another build"):
        build(plan)


def test_an_empty_folder_may_become_the_index_even_the_current_one(plan, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    build(Plan(**{**vars(plan), "out": Path()}))
    assert (tmp_path / "here" / MANIFEST).exists()


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_empty_articles_are_counted_wherever_they_stand(rows, tiny, tmp_path):
    texts = ["", "Iron is a metal. It rusts.", "", "Gold is heavy.", "", ""]
    build(plan_of(texts, tiny, tmp_path, shard_rows=rows))
    manifest = Index(tmp_path / "out").manifest
    assert (manifest.articles, manifest.passages, manifest.skipped) == (6, 3, {"empty": 4})


DUMP = [
    "#REDIRECT [[a]]", "Iron is a metal. It rusts.", "{{Infobox}}", "Gold is heavy.", "{{disambig}}",
    "#REDIRECT [[b]]", "Air is thin. It is {{felt|5}} cold.", "Sea is {{felt|9}} deep.", "{{dab}}",
    "Ore is hard.\n== Sources ==\nMiller, Ann (1987). Ores. Delta Press.",
    "#REDIRECT [[c]]",
]  # fmt: skip


def plan_of_dump(tiny, tmp_path, out, rows):
    pages = "".join(
        f"<page><title>T{n}</title><id>{n}</id><revision><text>{text}</text></revision></page>"
        for n, text in enumerate(DUMP)
    )
    (tmp_path / "a.xml").write_text(f"<mediawiki>{pages}</mediawiki>")
    corpus = Corpus.open(tmp_path / "a.xml")
    return Plan(corpus, tmp_path / out, {"minilm": tiny}, Unit("sentence"), shard_rows=rows)


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_what_was_left_out_is_counted_by_reason_also_when_killed_behind_any_shard(
    rows, tiny, tmp_path, monkeypatch
):
    undisturbed = plan_of_dump(tiny, tmp_path, "whole", rows)
    build(undisturbed)
    manifest = Index(undisturbed.out).manifest
    assert manifest.skipped == {"disambiguation": 2, "empty": 1, "redirect": 3}
    assert (manifest.articles, manifest.passages) == (6, 7)
    assert manifest.left_out == {"section Sources": 1, "{{felt}}": 2, "{{infobox}} (block)": 1}
    shards = len(manifest.shard_rows)
    for left in range(1, shards + 1):
        plan = plan_of_dump(tiny, tmp_path, f"out{left}", rows)

        def kill(path, passages, notes, left=left, real=write_shard):
            real(path, passages, notes)
            if int(path.stem) == left - 1:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr("wiki_index.steps.split.write_shard", kill)
            build(plan)
        assert len(list((plan.work / "passages").iterdir())) == left
        build(plan)
        assert same(plan.out, undisturbed.out)


def test_what_was_left_out_is_told_the_same_behind_a_kill(tiny, tmp_path, monkeypatch, capsys):
    path = plan_of_dump(tiny, tmp_path, "", 1).corpus.path
    # By timing, two builds on a busy machine may decide for two precisions.
    command = ["build", path, tmp_path / "whole", "--encoder", tiny.card.name, "--precision", "fp32"]
    assert call(*command, monkeypatch=monkeypatch) == 0
    whole = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out")]
    assert whole == [
        "left out, templates in sentences: {{felt}} 2 times",
        "left out, templates on their own: {{infobox}} once",
        "left out, sections: Sources once",
    ]
    command[2] = tmp_path / "out"
    for step in ("steps.split.write_shard", "build.encode", "build.make_index"):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(f"wiki_index.{step}", interrupted)
            patched.setattr(sys, "argv", ["wiki_index", *map(str, command)])
            program.main()
    assert call(*command, monkeypatch=monkeypatch) == 0
    again = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out")]
    assert again == whole and same(tmp_path / "out", tmp_path / "whole")


def test_pages_before_the_point_of_a_kill_are_not_converted_again(tiny, tmp_path, monkeypatch):
    plan = plan_of_dump(tiny, tmp_path, "out", 3)
    converted, real = [], MediaWiki.article

    def article(self, record):
        if record.id == "7":
            raise KeyboardInterrupt
        return real(self, record)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(MediaWiki, "article", article)
        build(plan)
    with monkeypatch.context() as patched:
        converted.clear()
        patched.setattr(MediaWiki, "article", lambda *of, real=real: converted.append(of[1].id) or real(*of))
        build(plan)
    # The shard with the passages of pages 1 and 3 was whole.
    assert converted == [str(n) for n in range(4, 11)] and len(Index(plan.out)) == 7


def test_an_unfinished_build_of_an_older_kit_is_refused(plan):
    plan.work.mkdir()
    (plan.work / SETTINGS).write_text(json.dumps(plan.settings()))
    write_shard(
        plan.work / "passages/00000.arrow", [Passage(0, "1", "T", "x y")], {"articles": "1", "empty": "0"}
    )
    with pytest.raises(ArtifactError, match="another version"):
        build(plan)


def test_a_build_of_an_older_kit_whose_text_was_split_is_refused(plan, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("wiki_index.build.encode", interrupted)
        build(plan)
    counts = json.loads((plan.work / SPLIT).read_text())
    del counts["left_out"]
    (plan.work / SPLIT).write_text(json.dumps(counts))
    before = names(plan.work)
    with pytest.raises(ArtifactError, match="another version") as raised:
        build(plan)
    assert "remove that folder" in str(raised.value) and names(plan.work) == before


def interrupted(*_):
    raise KeyboardInterrupt


def test_an_index_of_an_older_kit_opens(whole, tiny, tmp_path):
    """Its manifest does not say what was left out."""
    shutil.copytree(whole, tmp_path / "old")
    fields = json.loads((whole / MANIFEST).read_text())
    del fields["left_out"], fields["sha256"]
    (tmp_path / "old" / MANIFEST).write_text(json.dumps({**fields, "sha256": fields_sha256(fields)}))
    old, query = Index(tmp_path / "old"), tiny.encode_queries(["What holds 7 grams?"])
    assert old.manifest.left_out == {} and len(old) == len(Index(whole))
    assert np.array_equal(old.search(query, 3)[1], Index(whole).search(query, 3)[1])


def test_a_corpus_of_one_sentence_is_an_index(tiny, tmp_path):
    build(plan_of(["Iron is a metal."], tiny, tmp_path))
    index = Index(tmp_path / "out")
    assert len(index) == 1 and index.passages[0].text == "Iron is a metal."


@pytest.mark.parametrize("texts", [[""], ["== Iron ==\n", "\n"]])
def test_a_corpus_without_text_is_refused(texts, tiny, tmp_path):
    with pytest.raises(InputError, match="no text"):
        build(plan_of(texts, tiny, tmp_path))
    assert not (tmp_path / "out").exists()


def test_half_a_surrogate_in_an_article_does_not_stop_a_build(tiny, tmp_path):
    build(plan_of(["Iron \ud800 is a metal.", "Gold is heavy."], tiny, tmp_path))
    assert len(Index(tmp_path / "out")) == 2


def test_a_dry_run_does_not_need_text_in_the_first_article(tiny, tmp_path):
    found = forecast(plan_of(["", "Iron is a metal.", "Gold is heavy."], tiny, tmp_path))
    assert found.articles == 3 and found.passages >= 2


@pytest.mark.parametrize("limit", [300, 3_000, 12_000, 40_000])
def test_a_full_disk_at_any_step_is_one_message_and_the_same_command_goes_on(limit, corpus, tiny, tmp_path):
    """Limits that stop settings.json, the text, and the vectors (46 kB)."""
    out, soft = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)
    make = Plan(Corpus.open(corpus), out, {"minilm": tiny}, Unit("sentence"), shard_rows=ROWS)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, soft[1]))
        with pytest.MonkeyPatch.context() as patched:
            said = []
            patched.setattr("builtins.print", lambda *words, **_: said.append(str(words[0])))
            code = run_program(lambda: bool(build(make)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft)
        signal.signal(signal.SIGXFSZ, handler)
    assert code == 2 and len(said) == 1 and "the disk is full" in said[0] and not out.exists()
    assert not list(tmp_path.rglob("*.part"))
    assert build(make) and len(Index(out)) == 360


def test_the_command_line_goes_the_whole_way_and_says_when_nothing_is_to_do(
    corpus, tiny, tmp_path, monkeypatch, capsys
):
    command = ["build", corpus, tmp_path / "out", "--encoder", tiny.card.name, "--title"]
    assert call(*command, monkeypatch=monkeypatch) == 0
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert call(*command, monkeypatch=monkeypatch) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert call(*command[:-1], monkeypatch=monkeypatch) == 2
    assert "differs in title_in_text" in capsys.readouterr().err
    assert call("check", tmp_path / "out", monkeypatch=monkeypatch) == 0
    assert "60 articles, 360 passages" in capsys.readouterr().out


@pytest.mark.parametrize("k", ["0", "-1"])
def test_a_search_for_no_passages_is_refused(k, whole, monkeypatch, capsys):
    try:
        code = call("search", whole, "ore", "-k", k, monkeypatch=monkeypatch)
    except SystemExit as left:
        code = left.code
    assert code == 2 and "-k" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["passages/00001.arrow", "dense/minilm/vectors.npy", "dense/minilm/index.faiss", MANIFEST]
)
def test_a_missing_or_cut_file_is_named(name, whole, tmp_path, monkeypatch, capsys):
    for number, spoil in enumerate((Path.unlink, lambda path: os.truncate(path, 100))):
        broken = Path(shutil.copytree(whole, tmp_path / f"{number}"))
        spoil(broken / name)
        assert call("check", broken, monkeypatch=monkeypatch) == 2
        said = capsys.readouterr().err
        assert name in said and said.count("error:") == 1 and "do this:" in said


@pytest.mark.parametrize("unit", ["sentence", "article"])
def test_the_disk_that_is_foreseen_is_that_of_the_texts(unit, tiny, tmp_path):
    """A passage that is an article weighs as much as its article, whatever a sentence does."""
    texts = [
        " ".join(f"Ore {n} of part {a} holds {n * a} grams of it." for n in range(150)) for a in range(40)
    ]
    plan = dataclasses.replace(plan_of(texts, tiny, tmp_path), unit=Unit.parse(unit), lexical=True)
    found = forecast(plan)
    build(plan)
    used = sum(path.stat().st_size for path in plan.out.rglob("*") if path.is_file())
    assert used / 3 < found.disk < used * 3
