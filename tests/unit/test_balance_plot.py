from mtl_ray.balance_plot import balance_plot, series_of

HISTORY = {
    1: {"balance/weight/a": 0.5, "balance/weight/b": 0.5, "balance/cosine/a/b": -0.5, "balance/conflicting": 1.0},
    2: {"balance/weight/a": 0.7, "balance/weight/b": 0.3, "balance/cosine/a/b": 0.2, "gate/x/0": 0.9, "gate/x/1": 0.1},
}


def test_series_are_the_values_of_a_key_by_epoch():
    assert series_of(HISTORY, "balance/weight") == {"a": {1: 0.5, 2: 0.7}, "b": {1: 0.5, 2: 0.3}}
    assert series_of(HISTORY, "balance/conflicting") == {"": {1: 1.0}}


def test_what_was_seen_of_the_balance_is_drawn_and_nothing_where_nothing_was_seen():
    picture = balance_plot(HISTORY, "title")
    assert picture is not None
    assert picture.startswith(b"\x89PNG")
    assert balance_plot({1: {"train/loss": 0.5}}, "title") is None
