"""What one setting is (where it is written, how its text is read, its meaning); it must not know which there are.

`read_*` turn the text of an INI file or an environment variable into a value, or raise ValueError whose message
completes the sentence "… must be".
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Callable
from typing import Any

PLACEHOLDERS = frozenset({"x.x.x.x", "my_key", "my_secret", "my_bucket"})  # what the cookbook writes for "not set"

_PERIOD = re.compile(
    r"P(?=.)(?:\d+Y)?(?:\d+M)?(?:\d+W)?(?:\d+D)?(?:T(?=.)(?:\d+H)?(?:\d+M)?(?:\d+(?:\.\d+)?S)?)?", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One line of the table of settings: INI section and key, field of the dataclass, reader, meaning, default."""

    section: str
    key: str
    group: str  # attribute of Config
    field: str  # attribute of the group
    read: Callable[[str], Any]
    meaning: str
    default: Any
    default_text: str
    secret: bool
    roles: tuple[str, ...]

    def show(self, value: object) -> str:
        """Return `value` as a person would write it; a secret is never shown."""
        if self.secret:
            return "(set)" if value else ""
        return text_of(value)


def setting(
    default: Any,
    read: Callable[[str], Any],
    meaning: str,
    *,
    key: str = "",
    section: str = "",
    default_text: str = "",
    secret: bool = False,
    roles: tuple[str, ...] = (),
) -> Any:
    """Declare a field of a section's dataclass; `key` and `section` where they differ from the field's and class's."""
    about = {
        "read": read, "meaning": meaning, "key": key, "section": section,
        "default_text": default_text, "secret": secret, "roles": roles,
    }  # fmt: skip
    return dataclasses.field(default=default, repr=not secret, metadata=about)


def settings_of(group: str, section_class: Any) -> list[Setting]:
    """Return the settings that a section's dataclass declares, in order."""
    found = []
    for field in dataclasses.fields(section_class):
        about = field.metadata
        found.append(
            Setting(
                section=about["section"] or section_class.SECTION,
                key=about["key"] or field.name,
                group=group,
                field=field.name,
                read=about["read"],
                meaning=about["meaning"],
                default=field.default,
                default_text=about["default_text"] or text_of(field.default),
                secret=about["secret"],
                roles=about["roles"] or section_class.ROLES,
            )
        )
    return found


def text_of(value: object) -> str:
    """Return the text that reads back as `value`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, tuple):
        return ",".join('"' + v.replace('"', '""') + '"' if {",", '"'} & set(v) else v for v in map(str, value))
    return str(value)


def read_text(text: str) -> str:
    return text


def read_list(text: str) -> tuple[str, ...]:
    """Read names between commas (or lines): spaces around them are dropped, CSV quotes hold a comma or a quote."""
    names: list[str] = []
    try:
        for row in csv.reader(text.splitlines(), skipinitialspace=True, strict=True):
            names += [name.strip() for name in row]
    except csv.Error as error:
        # a quote inside an unquoted name is plain; one that is opened must be closed
        raise ValueError(f"names separated by commas, quoted as in CSV ({error})") from None
    return tuple(dict.fromkeys(name for name in names if name))


def read_flag(text: str) -> bool:
    word = text.strip().lower()
    if word in {"true", "yes", "on", "1"}:
        return True
    if word in {"false", "no", "off", "0"}:
        return False
    raise ValueError("true or false")


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    def read(text: str) -> int:
        wanted = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
        try:
            value = int(text)
        except ValueError:
            raise ValueError(wanted) from None
        if value < low or (high is not None and value > high):
            raise ValueError(wanted)
        return value

    return read


def number(low: float, high: float = float("inf"), *, above: bool = False) -> Callable[[str], float]:
    """Return a reader of numbers from `low` (or, with `above`, more than `low`) to `high`."""

    def read(text: str) -> float:
        wanted = f"a number {'above' if above else 'of at least'} {low:g}"
        if high != float("inf"):
            wanted += f" and at most {high:g}"
        try:
            value = float(text)
        except ValueError:
            raise ValueError(wanted) from None
        if not low <= value <= high or (above and value == low) or value == float("inf"):
            raise ValueError(wanted)
        return value

    return read


def choice(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        word = text.strip().lower()
        if word not in words:
            raise ValueError("one of " + ", ".join(words))
        return word

    return read


def read_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/:]\S*|https?://\[[0-9a-fA-F:]+\]\S*", text):
        raise ValueError("an address that starts with http:// or https://")
    return text


def read_s3_address(text: str) -> str:
    """Read the address of an S3; a bare host name means https."""
    return read_url(text if "://" in text else "https://" + text)


def read_lead_in(text: str) -> str:
    word = text.strip()
    if word.lower() in {"auto", "none"}:
        return word.lower()
    if not _PERIOD.fullmatch(word):
        raise ValueError("auto, none or an ISO period such as P1D")
    return word.upper()


def read_granularities(text: str) -> tuple[str, ...]:
    periods = tuple(period.upper() for period in read_list(text))
    if not periods or not all(_PERIOD.fullmatch(period) for period in periods):
        raise ValueError("ISO periods separated by commas, such as PT1M,PT5M,PT1H")
    return periods


def read_cron(text: str) -> str:
    """Read a cron line of five fields; its fields are checked for their range."""
    wanted = "a cron line of five fields, such as 0 3 * * *"
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(wanted)
    limits = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    for field, (low, high) in zip(fields, limits):
        for part in field.split(","):
            match = re.fullmatch(r"(\*|\?|[a-z]{3}|\d+)(?:-([a-z]{3}|\d+))?(?:/([1-9]\d*))?", part.lower())
            ends = [int(end) for end in match.groups()[:2] if end and end.isdigit()] if match else [-1]
            if not all(low <= end <= high for end in ends):
                raise ValueError(wanted)
    return " ".join(fields)
