"""Who has which samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_compute.client.datasets import Dataset, split_holdout
from fed_compute.client.datasets.dataset import HOLDOUT_SEED
from fed_compute.errors import SimulationImpossible
from fed_compute.simulator.splits import Holdings, Split

CLASSES = 5


def data(count: int = 400) -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset(rng.random((count, 3), dtype=np.float32), rng.integers(CLASSES, size=count), "made")


@settings(max_examples=25)
@given(
    kind=st.sampled_from(["iid", "dirichlet:0.1", "shards:2", "quantity:0.3", "feature:1"]),
    count=st.integers(1, 20),
    seed=st.integers(0, 2**32),
)
def test_where_data_suffice_every_sample_has_exactly_one_client(kind: str, count: int, seed: int) -> None:
    holdings = Holdings(data(), count, Split.parse(kind), seed=seed)
    rows = np.concatenate([holdings.rows(client) for client in range(count)])
    assert sorted(rows) == list(range(400))
    assert not holdings.is_drawn


@pytest.mark.parametrize("kind", ["iid", "dirichlet:0.1", "shards:2", "quantity:0.3", "feature:1"])
def test_a_million_clients_share_little_data_and_each_is_the_same_again(kind: str) -> None:
    first, again = (Holdings(data(), 1_000_000, Split.parse(kind), seed=3, samples_per_client=20) for _ in range(2))
    assert first.is_drawn
    for client in (0, 17, 999_999):
        assert np.array_equal(first.rows(client), again.rows(client))
        assert np.array_equal(first.shard(client).samples().x, again.shard(client).samples().x)
    assert not np.array_equal(first.rows(0), first.rows(1))


def num_classes_of(holdings: Holdings) -> float:
    _, table = holdings.table(50)
    return float((table > 0).sum(axis=1).mean())


def test_shards_and_small_alphas_leave_a_client_few_classes() -> None:
    for samples_per_client in (None, 30):
        few, some, all_ = (
            Holdings(data(), 20, Split.parse(kind), seed=1, samples_per_client=samples_per_client)
            for kind in ("shards:1", "dirichlet:0.1", "iid")
        )
        assert num_classes_of(few) < 2.0
        assert num_classes_of(few) <= num_classes_of(some) < num_classes_of(all_)
        assert num_classes_of(all_) > 4.5


def test_quantity_skew_makes_sizes_unequal() -> None:
    for samples_per_client in (None, 30):
        split, even = Split.parse("quantity:0.3"), Split.parse("iid")
        skewed = Holdings(data(), 20, split, seed=1, samples_per_client=samples_per_client)
        sizes = [len(skewed.rows(client)) for client in range(20)]
        level = Holdings(data(), 20, even, seed=1, samples_per_client=samples_per_client)
        assert max(sizes) > 2 * max(len(level.rows(client)) for client in range(20))


def test_feature_skew_grows_from_client_to_client_and_leaves_labels_alone() -> None:
    made = data()
    holdings = Holdings(made, 10, Split.parse("feature:2"), seed=1)
    moved = []
    for client in range(10):
        plain, own = made.take(holdings.rows(client)), holdings.shard(client).samples()
        assert np.array_equal(plain.y, own.y)
        moved.append(float(np.abs(plain.x - own.x).mean()))
    assert moved[0] == 0.0
    assert moved[-1] > moved[4] > moved[1] > 0.0


def test_by_user_gives_each_client_one_users_samples() -> None:
    users = np.random.default_rng(1).integers(6, size=400)
    holdings = Holdings(data(), 6, Split.parse("user"), seed=0, users=users)
    assert all(set(users[holdings.rows(client)]) == {client} for client in range(6))
    with pytest.raises(SimulationImpossible, match="name 6 users"):
        Holdings(data(), 7, Split.parse("user"), seed=0, users=users)
    with pytest.raises(SimulationImpossible, match="name the user of each sample"):
        Holdings(data(), 2, Split.parse("user"), seed=0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dirichlt", r"did you mean 'dirichlet:0\.3'\? wanted one of iid, dirichlet:0\.3"),
        ("", r"wanted one of iid, dirichlet:0\.3"),
        ("dirichlet:x", r"takes a number from 0\.001 to 1000000, found 'x'; usual is dirichlet:0\.3"),
        ("dirichlet:0", "found '0'"),
        ("dirichlet:nan", "found 'nan'"),
        ("shards:1.5", r"a whole number from 1 to 1000000, found '1\.5'; usual is shards:2"),
        ("shards:-1", "found '-1'"),
        ("iid:2", "iid takes no number"),
    ],
)
def test_a_split_that_is_none_is_refused_with_what_is_wanted(text: str, said: str) -> None:
    with pytest.raises(SimulationImpossible, match=said):
        Split.parse(text)


@pytest.mark.parametrize("text", ["iid", "dirichlet:0.1", "shards:3", "quantity:2", "feature:0.5", "user"])
def test_a_split_is_written_as_it_is_read(text: str) -> None:
    assert str(Split.parse(text)) == text
    assert Split.parse("dirichlet") == Split("dirichlet", 0.3)


@pytest.mark.parametrize("kind", ["iid", "quantity:0.2", "feature:0.5"])
def test_no_client_trains_on_what_it_measures_models_on(kind: str) -> None:
    """As real clients do it: a fifth, at least one sample; of a single sample nothing."""
    holdings = Holdings(data(), 20, Split.parse(kind), seed=1, holdout_fraction=0.2)
    whole = Holdings(data(), 20, Split.parse(kind), seed=1)
    for client in range(20):
        training, held_out = holdings.training(client), holdings.held_out(client)
        assert whole.held_out(client) is None
        own = whole.training(client).samples()
        assert holdings.sizes(client) == (len(training), 0 if held_out is None else len(held_out))
        if len(own) == 1:
            assert held_out is None
            continue
        wanted = split_holdout(own, 0.2, HOLDOUT_SEED)
        assert held_out is not None
        for found, part in zip((training, held_out), wanted, strict=True):
            np.testing.assert_array_equal(found.samples().x, part.x)
            np.testing.assert_array_equal(found.samples().y, part.y)
