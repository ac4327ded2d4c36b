"""Amounts of money as people write them: with currencies, either decimal sign, and signs between thousands."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config.formats import NumberFormat
from mtl_ray.values.numbers import LARGEST, NULL_WORDS, parse_numbers, without_words

CODES = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF "
    "CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG "
    "HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA "
    "MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD "
    "RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX "
    "USD UYU UZS VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG"
)
"""Currencies of ISO 4217."""

NAMES = "kr zł kč ft fr rs sfr lei лв руб tl"
"""Short names of currencies without a sign of their own."""

SPACES = r"[\s\p{Z}'’]+"
"""Spaces of any width, non-breaking ones too, and the apostrophes that stand between thousands in Switzerland."""

MINUS = r"[−–]"


def _whole(sign: str) -> str:
    """Return a pattern of the digits before the decimal sign, with `sign` or spaces between thousands, or of none.

    Groups of two digits are those of India; the last group has three.
    """
    return rf"(\d+|[1-9]\d{{0,2}}(?:[{sign} ]\d{{2,3}})*[{sign} ]\d{{3}}|)"


def _amount(decimal: str) -> tuple[str, str]:
    """Return the pattern of an amount, and what it leaves of one: digits in groups, with `_` as decimal sign.

    It is read with the decimal sign `decimal` if it can be, otherwise with the other one.
    """
    other = "," if decimal == "." else "."
    currency = rf"(?:\p{{L}}{{0,2}}\p{{Sc}}|(?i:{'|'.join([*CODES.split(), *NAMES.split()])})\.?)?"
    first, second = (
        rf"{_whole(thousands)}(?:[{sign}](\d+))?" for sign, thousands in ((decimal, other), (other, decimal))
    )
    return rf"^\+?(-?) ?{currency} ?\+?(-?) ?(?:{first}|{second}) ?{currency}$", r"\1\2\3\5_\4\6"


AMOUNTS = {sign: _amount(sign) for sign in (".", ",")}
"""By decimal sign, see `_amount`."""


def as_numbers(values: pa.Array, how: NumberFormat, null_words: tuple[str, ...] = NULL_WORDS) -> pa.Array:
    """Return a column of numbers as its format reads it: amounts as float64, null where a text is none.

    What is not text, and a column without a format, stays as it is.
    """
    texts = values.dictionary if pa.types.is_dictionary(values.type) else values
    if how.format is None or not pa.types.is_string(texts.type):
        return values
    distinct = values.dictionary_encode()  # a price occurs often: it is looked at once
    return to_amounts(distinct.dictionary, how.decimal, null_words).take(distinct.indices)


def to_amounts(texts: pa.Array, decimal: str, null_words: tuple[str, ...] = NULL_WORDS) -> pa.Array:
    """Return (n,) float64 amounts of texts, null where there is none, or one beyond `LARGEST`.

    A text that is no amount of money but a number, such as `1e3`, is that number.

    Example:
        >>> to_amounts(pa.array(["€1,234.50", "1.234,50 EUR", "-12,5 kr", "free"]), ".").to_pylist()
        [1234.5, 1234.5, -12.5, None]
    """
    texts = without_words(pc.utf8_trim_whitespace(texts), null_words)
    pattern, kept = AMOUNTS[decimal]
    spaced = pc.replace_substring_regex(pc.replace_substring_regex(texts, SPACES, " "), MINUS, "-")
    digits = pc.replace_substring_regex(spaced, pattern, kept)
    amounts = pc.replace_substring(pc.replace_substring_regex(digits, "[., ]|_$", ""), "_", ".")
    numbers, _ = parse_numbers(pc.if_else(pc.match_substring_regex(spaced, pattern), amounts, texts), null_words)
    return pa.array(np.where(np.abs(numbers) <= LARGEST, numbers, np.nan), from_pandas=True)
