"""Rules from one input: the surest token of a row speaks, and nothing is known of tokens that were not seen."""

import numpy as np

from mtl_ray.data.preparation.one_input_rules import BUCKETS, class_rule, number_rule, tokens_of
from mtl_ray.schema import FIRST, NULL, PADDING


def column(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.int64)


def test_a_value_stands_for_its_most_frequent_label():
    rule = class_rule(column([3], [3], [3], [4], [4]), np.array([0.0, 2, 2, 1, 1]))
    assert rule(column([3], [4], [5])).tolist() == [2, 1, 1]  # of 1 and 2, as frequent, the first for an unseen value


def test_the_surest_of_several_tokens_speaks():
    tokens = column([3, 4], [3, 5], [3, 4], [3, 5], [3, 6])
    rule = class_rule(tokens, np.array([0.0, 1, 0, 1, 1]))
    assert rule(column([3, 4], [5, 3], [3, PADDING])).tolist() == [0, 1, 1]


def test_a_token_that_was_seen_once_is_less_sure_than_one_that_was_seen_often():
    often = [[3]] * 20
    rule = class_rule(column(*often, [4]), np.array([0.0] * 20 + [1.0]))
    assert rule(column([4])) == 1
    wide = class_rule(np.pad(column(*often, [4]), ((0, 0), (0, 1))), np.array([0.0] * 20 + [1.0]))
    assert wide(column([4, 3])) == 0


def test_padding_says_nothing():
    rule = class_rule(column([PADDING], [PADDING], [3]), np.array([1.0, 1, 0]))
    assert rule(column([PADDING], [3])).tolist() == [1, 0]
    assert PADDING not in rule.tokens


def test_a_value_stands_for_its_mean_number():
    rule = number_rule(column([3], [3], [4]), np.array([1.0, 3.0, 8.0]))
    assert rule(column([3], [4], [9])).tolist() == [2, 8, 4]


def test_the_token_whose_numbers_are_most_alike_speaks():
    rule = number_rule(column([3, 4], [3, 5], [3, 4], [3, 5]), np.array([1.0, 9.0, 1.0, 9.0]))
    assert rule(column([3, 4], [5, 3])).tolist() == [1, 9]


def test_a_number_is_cut_at_quantiles_of_the_choosing_rows():
    values = np.arange(4000.0)
    values[7] = np.nan
    tokens = tokens_of(values, values < 2000)[:, 0]
    assert tokens[7] == NULL
    assert len(np.unique(tokens)) == BUCKETS + 1
    assert (np.diff(np.delete(tokens, 7)) >= 0).all()
    assert tokens[2000:].min() == tokens.max() == FIRST + BUCKETS - 1


def test_a_number_without_a_value_is_null_throughout():
    assert tokens_of(np.full(3, np.nan), np.ones(3, bool)).tolist() == [[NULL]] * 3


def test_rules_without_a_token_predict_the_constant():
    assert class_rule(column([0], [0], [0]), np.array([1.0, 1, 0]))(column([3])).tolist() == [1]
    assert number_rule(column([0], [0]), np.array([1.0, 2]))(column([3])).tolist() == [1.5]
