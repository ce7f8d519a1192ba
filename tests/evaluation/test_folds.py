import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from kaggle_rag.evaluation.duplicates import Pair
from kaggle_rag.evaluation.folds import crossing, group, group_folds
from kaggle_rag.runtime.errors import ConfigError, InputError


def pair(left, right):
    return Pair(left, right, "words", 0.9, False)


def test_groups_are_chains_of_duplicates_and_keys():
    groups = group(7, [pair(0, 3), pair(3, 5)], ["x", "y", "y", None, None, None, None])
    assert groups.labels.tolist() == [0, 1, 1, 0, 2, 0, 3]
    assert groups.notes == ()


def test_an_article_larger_than_a_fold_is_divided_and_said():
    # Rows 0 and 1 are duplicates of different articles and chain them to one component of 8.
    keys = ["small", "physics", "physics", "physics", "physics", "physics", "physics", "small"]
    whole = group(8, [pair(0, 1)], keys)
    assert set(whole.labels) == {0}
    capped = group(8, [pair(0, 1)], keys, most=4)
    assert np.bincount(capped.labels).max() <= 4
    assert capped.labels[0] == capped.labels[1] == capped.labels[7]
    assert "8 questions are linked" in capped.notes[0] and "'physics'" in capped.notes[0]


def test_many_duplicates_without_any_keys_stay_together_too():
    groups = group(6, [pair(0, n) for n in range(1, 5)], most=3)
    assert groups.labels.tolist() == [0, 0, 0, 0, 0, 1] and "stay together" in groups.notes[0]


def test_duplicates_stay_together_even_where_they_fill_more_than_a_fold():
    groups = group(6, [pair(0, n) for n in range(1, 5)], ["a"] * 6, most=3)
    assert groups.labels.tolist()[:5] == [0] * 5
    assert any("5 questions are near-duplicates of each other" in note for note in groups.notes)


@given(
    st.integers(1, 40).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=12),
            st.lists(st.sampled_from([None, "a", "b", "c", "d"]), min_size=n, max_size=n),
            st.integers(1, 12),
        )
    )
)
@settings(max_examples=150)
def test_a_cap_parts_keys_and_never_duplicates(case):
    rows, links, keys, most = case
    pairs = [pair(*sorted(link)) for link in links if link[0] != link[1]]
    free, capped = group(rows, pairs, keys), group(rows, pairs, keys, most=most)
    alone = group(rows, pairs).labels
    assert crossing(pairs, capped.labels) == []
    for label in np.unique(capped.labels):
        inside = capped.labels == label
        assert len(set(free.labels[inside])) == 1
        assert inside.sum() <= most or len(set(alone[inside])) == 1
    parted = any(
        key is not None and len({capped.labels[i] for i in range(rows) if keys[i] == key}) > 1 for key in keys
    )
    assert parted <= bool(capped.notes)


def test_keys_must_be_one_a_question():
    with pytest.raises(InputError, match="2 keys for 3 questions"):
        group(3, [], ["a", "b"])


def imbalance(folds, strata):
    counts = np.array([np.bincount(strata[folds == f], minlength=5) for f in np.unique(folds)])
    sizes = counts.sum(axis=1)
    return np.ptp(sizes), (counts / sizes[:, None]).std(axis=0).mean()


def of_scikit_learn(splitter, groups, strata):
    folds = np.empty(len(groups), dtype=int)
    for number, (_, out) in enumerate(splitter.split(groups, strata, groups)):
        folds[out] = number
    return folds


@pytest.mark.parametrize(("rows", "spread"), [(3000, 2000), (500, 100)])
def test_folds_are_as_even_as_those_of_scikit_learn(rows, spread):
    rng = np.random.default_rng(0)
    groups, strata = (rng.pareto(1.5, rows) * 3).astype(int) % spread, rng.integers(0, 5, rows)
    groups[: rows // 2] = spread + np.arange(rows // 2)
    folds = group_folds(groups, strata, 5)
    for name in np.unique(groups):
        assert len(np.unique(folds[groups == name])) == 1
    size, letters = imbalance(folds, strata)
    size_of_theirs, _ = imbalance(of_scikit_learn(GroupKFold(5), groups, strata), strata)
    _, letters_of_theirs = imbalance(of_scikit_learn(StratifiedGroupKFold(5), groups, strata), strata)
    assert size <= size_of_theirs + 2
    assert letters <= letters_of_theirs + 0.002


def test_the_seed_decides_and_nothing_else():
    groups, strata = np.arange(100) // 2, np.arange(100) % 4
    assert group_folds(groups, strata, 5, 1).tolist() == group_folds(groups, strata, 5, 1).tolist()
    assert group_folds(groups, strata, 5, 1).tolist() != group_folds(groups, strata, 5, 2).tolist()


@given(st.lists(st.integers(0, 30), min_size=2, max_size=80), st.integers(2, 6))
@settings(max_examples=100)
def test_no_fold_is_empty_and_no_group_parted(groups, folds):
    if len(set(groups)) < folds:
        with pytest.raises(ConfigError, match=f"{folds} folds of"):
            group_folds(groups, [0] * len(groups), folds)
        return
    made = group_folds(groups, [0] * len(groups), folds)
    assert set(made) == set(range(folds))
    assert len(set(zip(groups, made.tolist()))) == len(set(groups))


def test_what_cannot_be_folded_is_refused():
    with pytest.raises(ConfigError, match="1 fold of"):
        group_folds([0, 1], [0, 0], 1)
    with pytest.raises(InputError, match="one of each per question"):
        group_folds([0, 1], [0], 2)
