"""What the names of columns and the words for events say."""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


USERS = _words(
    "user customer client visitor member person people account buyer shopper reader viewer subscriber reviewer player "
    "patient student uid usr employee guest passenger driver household consumer"
)
ITEMS = _words(
    "item product article video movie film song track book sku asin isbn clothing listing offer ad news content recipe "
    "game course job property hotel restaurant business artist iid goods post anime beer place venue app show episode "
    "podcast document page photo destination merchant"
)
UNITS = _words("session visit basket invoice transaction trip request search")
ID_ENDINGS = _words("id ids key no nr number code uuid guid hash sku asin isbn uid iid")
TIMES = _words("timestamp time ts datetime clock unixtime")
DATES = _words("date day created at when t dt on")
BIRTHS = _words("birth birthday birthdate dob born")
RATINGS = _words("rating ratings rate stars star score grade review")
LABELS = _words(
    "label target y outcome response churn churned converted conversion income survived class result approved success "
    "fraud"
)
"""Words for what is to be predicted."""
AFTERWARDS = _words(
    "watch watched dwell play played stay spent revenue amount gmv paid quantity qty refund progress completion "
    "listened feedback profit turnover"
)
"""Words for numbers that only exist once something has happened."""
COUNTS = _words("cnt count counts num total sum avg mean average share rate ratio")
CODES = _words(
    "onehot zip postal postcode plz code type category class feat feature tab status id cluster group gender sex "
    "region country store brand kind segment channel platform os browser city state place location"
)
"""Words for numbers that name something: their order means nothing."""
SPLITS = _words("train training test testing valid val validation dev holdout")
ROWS = re.compile(
    r"^(__index_level_\d+__|unnamed\W*\d*|index|row(_?(id|no|nr|number))?|source_?file|file_?name)$", re.I
)
"""Columns that count rows or say where they come from."""

STEPS = {
    "purchase": (
        "purchase",
        "purchased",
        "buy",
        "bought",
        "order",
        "ordered",
        "transaction",
        "booking",
        "booked",
        "sale",
    ),
    "checkout": ("checkout",),
    "cart": ("cart", "addtocart", "basket"),
    "click": ("click", "clicked", "clk"),
    "view": ("view", "viewed", "pv", "pageview", "detail", "visit", "open", "play", "listen", "watch", "read"),
    "impression": ("impression", "impressions", "show", "shown", "exposure", "exposed"),
}
"""What leads to a purchase, the last step first, with the words for each."""
OPINIONS = {
    "subscribe": ("subscribe", "subscribed", "install", "download", "signup"),
    "long_view": ("long", "finish", "finished", "complete", "completed"),
    "like": ("like", "liked", "fav", "favorite", "favourite", "wishlist", "bookmark", "save", "saved", "upvote"),
    "share": ("share", "shared", "forward", "forwarded", "repost", "retweet"),
    "follow": ("follow", "followed"),
    "comment": ("comment", "commented", "reply"),
    "recommended": ("recommended", "recommend", "positive", "helpful"),
    "enter": ("enter", "entered"),
    "hate": ("hate", "dislike", "disliked", "report", "block", "downvote", "unlike"),
}
"""What people do beside it."""
UNDONE = _words("remove removed from cancel cancelled return returned delete unfollow")
FEEDBACK = {word: name for name, words in (*STEPS.items(), *OPINIONS.items()) for word in words}
IMPORTANCE = (
    *("purchase", "checkout", "subscribe", "cart", "rating", "click", "long_view", "recommended", "like", "share"),
    *("follow", "comment", "enter", "view", "hate", "impression"),
)
"""What a shop or a service wants most, first: the order in which tasks are written."""


def tokens(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case: `UserID` and `user_id` have the same.

    Example:
        >>> tokens("Clothing ID"), tokens("isClick"), tokens("userid")
        (('clothing', 'id'), ('is', 'click'), ('user', 'id'))
    """
    parted = re.sub(r"([a-z\d])([A-Z])|([A-Z])(?=[A-Z][a-z])", r"\1\3 \2", name)
    found = [word for word in re.split(r"[\W_]+", parted.lower()) if word]
    glued = (re.fullmatch(r"(\w+?)(id|key|uuid|code)", word) for word in found)
    pairs = [
        (match[1], match[2]) if match and match[1] in USERS | ITEMS | UNITS else (word,)
        for word, match in zip(found, glued, strict=True)
    ]
    return tuple(word for pair in pairs for word in pair)


def is_id(name: str) -> bool:
    """Return whether a name says that the values are ids."""
    return bool(words := tokens(name)) and words[-1] in ID_ENDINGS


def names_id_of(name: str, entity: frozenset[str]) -> bool:
    """Return whether a name says that the values are ids of an entity, such as `USERS`."""
    words = tokens(name)
    return bool(entity.intersection(words)) and (is_id(name) or len(words) == 1)


def feedback(name: str) -> str | None:
    """Return what a word for an event, or the name of its column, stands for: a key of `STEPS` or `OPINIONS`.

    Example:
        >>> feedback("add_to_cart"), feedback("is_long_view"), feedback("remove_from_cart"), feedback("device")
        ('cart', 'long_view', None, None)
    """
    words = tokens(name)
    if UNDONE.intersection(words):
        return None
    meant = {FEEDBACK[word] for word in words if word in FEEDBACK}
    order = (*OPINIONS, *STEPS)  # a long view is no mere view, a shared order no order
    return next((one for one in order if one in meant), None)


def importance(meaning: str | None) -> int:
    """Return the place of a meaning in `IMPORTANCE`; what has none comes last."""
    return IMPORTANCE.index(meaning) if meaning in IMPORTANCE else len(IMPORTANCE)
