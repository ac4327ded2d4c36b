"""Small logs of each shape."""

from typing import Any

import numpy as np
import pandas as pd

START = 1_767_222_000
"""Seconds since 1970 of the first row."""
NUM_USERS, NUM_ITEMS, NUM_ROWS = 30, 20, 600


def ratings(seed: int = 0) -> pd.DataFrame:
    """A row a rating, in no order."""
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user_id": [f"u{user}" for user in draw.integers(0, NUM_USERS, NUM_ROWS)],
            "item_id": [f"i{item}" for item in draw.integers(0, NUM_ITEMS, NUM_ROWS)],
            "rating": draw.integers(1, 6, NUM_ROWS),
            "timestamp": START + draw.permutation(NUM_ROWS) * 60,
        }
    )


def feedback(seed: int = 0) -> pd.DataFrame:
    """Rows with 0/1 feedback, a property of the item, the circumstances, and what gives the label away."""
    draw = np.random.default_rng([seed, 1])  # not the numbers that chose users and items
    log = ratings(seed).drop(columns="rating")
    item = log.item_id.str[1:].astype(int)
    log["is_click"] = draw.integers(0, 2, NUM_ROWS)
    log["purchase"] = log.is_click * (draw.random(NUM_ROWS) < 0.4)
    log["bought"] = log.purchase
    log["length"] = (item * 37) % 20 + 0.5
    log["device"] = draw.choice(["mobile", "desktop"], NUM_ROWS)
    log["basket_value"] = np.where((log.purchase == 1) & (draw.random(NUM_ROWS) < 0.8), draw.random(NUM_ROWS), np.nan)
    log["state"] = np.where(log.is_click == 1, "reached", "not reached")
    return log


def users() -> pd.DataFrame:
    """People whose genders and dates are written in several ways."""
    genders, numbers = ["f", "F", "female", "m", "Male "], np.arange(NUM_USERS)
    return pd.DataFrame(
        {
            "user_id": [f"u{user}" for user in numbers],
            "gender": [genders[user % 5] for user in numbers],
            "birth_date": [f"19{50 + user}-03-{user % 28 + 1:02}" if user % 7 else "17/03/1984" for user in numbers],
            "country": "NL",
        }
    )


def items() -> pd.DataFrame:
    """Products with prices, categories in a path, and titles."""
    numbers = np.arange(NUM_ITEMS)
    return pd.DataFrame(
        {
            "item_id": [f"i{item}" for item in numbers],
            "price": [f"€{item + 1},{item:03}.50" if item % 3 else f"$ {item}.00" for item in numbers],
            "path": [f"Home > {'Kitchen' if item % 2 else 'Garden'}" for item in numbers],
            "tags": ["new|sale" if item % 3 else "new" for item in numbers],
            "title": [f"A fine thing number {item}" for item in numbers],
        }
    )


def events(seed: int = 0) -> pd.DataFrame:
    """A row an event: all are viewed, some are put into the cart, and some of these bought."""
    draw = np.random.default_rng([seed, 1])
    views = ratings(seed).drop(columns="rating")
    views["timestamp"] = pd.to_datetime(views.timestamp, unit="s").dt.strftime("%Y-%m-%dT%H:%M:%S+02:00")
    views["session_id"] = [f"s{row // 4}" for row in range(NUM_ROWS)]
    views["event_type"] = "view"
    carts = views[draw.random(NUM_ROWS) < 0.4].assign(event_type="add_to_cart")
    bought = carts[draw.random(len(carts)) < 0.4].assign(event_type="purchase")
    return pd.concat([views, carts, bought], ignore_index=True)


def people(seed: int = 0) -> pd.DataFrame:
    """A row a person."""
    draw = np.random.default_rng(seed)
    age = draw.integers(18, 80, NUM_ROWS)
    income = np.where(draw.random(NUM_ROWS) < age / 160, ">50K", "<=50K")
    return pd.DataFrame({"age": age, "job": draw.choice(["clerk", "nurse", "smith"], NUM_ROWS), "income": income})


def shuffled(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The rows and the columns of a frame in another order."""
    draw = np.random.default_rng(seed)
    columns: Any = list(frame.columns[draw.permutation(frame.shape[1])])
    return frame.iloc[draw.permutation(len(frame))][columns].reset_index(drop=True)
