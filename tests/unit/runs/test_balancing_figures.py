from mtl_ray.runs.balancing_figures import balance_plot, conflict_map, expert_map, series_of

HISTORY = {
    1: {"balance/weight/a": 0.5, "balance/weight/b": 0.5, "balance/cosine/a/b": -0.5, "balance/conflicting": 1.0},
    2: {"balance/weight/a": 0.7, "balance/weight/b": 0.3, "balance/cosine/a/b": 0.2, "gate/x/0": 0.9, "gate/x/1": 0.1},
}


def test_series_are_the_values_of_a_key_by_epoch():
    assert series_of(HISTORY, "balance/weight") == {"a": {1: 0.5, 2: 0.7}, "b": {1: 0.5, 2: 0.3}}
    assert series_of(HISTORY, "balance/conflicting") == {"": {1: 1.0}}


def test_what_was_seen_of_the_balance_is_drawn_and_nothing_where_nothing_was_seen():
    figure = balance_plot(HISTORY)
    assert figure is not None
    assert [len(axis.lines) for axis in figure.axes if axis.axison] == [2, 1, 1]  # weights, cosine, conflicting
    assert balance_plot({1: {"train/loss": 0.5}}) is None


def test_the_conflict_map_has_the_last_cosine_of_each_pair_on_both_sides():
    figure = conflict_map(HISTORY)
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.20", "0.20"]
    assert conflict_map({1: {"balance/weight/a": 0.5}}) is None


def test_the_expert_map_has_a_row_a_gate():
    figure = expert_map(HISTORY)
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.90", "0.10"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["x"]
    assert expert_map({1: {"gate/idle": 0.0}}) is None
