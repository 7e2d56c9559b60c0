"""Texts as they are printed and logged: one line, without control characters and secrets."""

import re
import unicodedata
from urllib.parse import unquote

# They would move the cursor, colour the screen, or show the letters after them in another order.
_CONTROLS = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\\ud800-\\udfff]"
)

# Limits of length, as text of any length must be read once only.
_START = r"[A-Za-z][A-Za-z0-9+.-]{1,30}:/+"
_ADDRESS = re.compile(rf"{_START}[^\s'\"<>]+")
_PARTS = re.compile(rf"({_START})([^/]*)(/?)(.*)", re.DOTALL)
_QUERY = re.compile(r"([^?#]*)([?#])(.*)", re.DOTALL)
_CHAIN = re.compile(rf"::(?={_START})")
_HAS_PASSWORD = re.compile(r"[^:?]+:(?!\d*$)")
_SECRET_VALUE = re.compile(
    r"([?&][\w.-]{0,40}(?:token|sig|secret|key|passw|pwd|credential|auth)[\w.-]{0,40}=)[^\s&'\"]+",
    re.I,
)
_PARAMETER = re.compile(r"[\w.~%$-]+=\S+$")
_HIDDEN = "***"


def printable(text: str) -> str:
    """Return a text with escapes such as \\x1b for its control characters."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(message: object) -> str:
    """Return a message in one line, as it can be printed, without the secrets of addresses."""
    return printable(without_secrets(" ".join(str(message).split())))


def cut(text: str, columns: int) -> str:
    """Return a text in one line of at most so many columns, its end as "..." if it is longer."""
    text = one_line(text)
    if _columns(text) <= columns:
        return text
    kept = text[: max(0, columns - 3)]  # A letter may take two columns, or none.
    while _columns(kept) > columns - 3:
        kept = kept[:-1]
    return f"{kept.rstrip()}..."


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(bool(unicodedata.combining(letter)) for letter in text)


def without_secrets(text: str) -> str:
    """Return a text without user names, passwords and parameters of the addresses in it."""
    shown = _ADDRESS.sub(lambda found: shown_address(found[0]), text)
    return _SECRET_VALUE.sub(rf"\1{_HIDDEN}", shown)


def shown_address(address: str) -> str:
    """Return an address without user name, password and the values of its parameters."""
    return "::".join(map(_shown_part, _CHAIN.split(address)))


def secrets_of(address: str) -> set[str]:
    """Return what `shown_address` leaves out of an address, as it is there and decoded."""
    secrets: set[str] = set()
    for part in _CHAIN.split(address):
        if (found := _PARTS.fullmatch(part)) is None:
            continue
        user, query = _user_of(found[2], found[4]), _QUERY.fullmatch(part)
        secrets |= {user, *user.split(":", 1)}
        if query is not None and _is_query(part, query[3]):
            secrets |= {value.partition("=")[2] or value for value in re.split("[&;#]", query[3])}
    return {each for one in secrets for each in (one, unquote(one)) if len(each) > 3}


def name_at(address: str) -> str:
    """Return the name of the file at an address, without parameters, which may be secret."""
    path = _CHAIN.split(address)[0].rstrip("/")
    if (query := _QUERY.fullmatch(path)) is not None and _is_query(path, query[3]):
        path = query[1].rstrip("/")
    name = path.rpartition("/")[2]
    return name if name not in ("", ".", "..") else "source"


def _shown_part(address: str) -> str:
    found = _PARTS.fullmatch(address)
    if found is None:
        return address
    start, host, slash, path = found.groups()
    if user := _user_of(host, path):
        rest = f"{_HIDDEN}@{f'{host}{slash}{path}'[len(user) + 1 :]}"
    else:
        rest = f"{host}{slash}{path}"
    if (query := _QUERY.fullmatch(rest)) is not None and _is_query(start, query[3]):
        values = re.sub("(?<==)[^&;#]*", _HIDDEN, query[3])
        return f"{start}{query[1]}{query[2]}{values if '=' in values else _HIDDEN}"
    return start + rest


def _user_of(host: str, path: str) -> str:
    """Return the user name and password that stand before an @, or '' without them."""
    if "@" in host:
        return host.rpartition("@")[0]
    # A secret key may have slashes in it.
    if _HAS_PASSWORD.match(host) and "@" in path:
        return f"{host}/{path.rpartition('@')[0]}"
    return ""


def _is_query(address: str, query: str) -> bool:
    """Return whether what follows a ? or # has parameters, and is not a part of a file's name."""
    if address.lower().startswith(("http:", "https:")):
        return True
    return _PARAMETER.match(query) is not None
