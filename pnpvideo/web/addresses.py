"""Know who asks: the address of a visitor, and the name by which a browser knows the server."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pnpvideo.errors import InputError

_LOCAL = ("localhost", "127.0.0.1", "::1")
_ANY = ("0.0.0.0", "::", "")
_PORTS = {"http": 80, "https": 443}
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, kw_only=True)
class Name:
    """The name of a server in a header. port: None for the scheme's default port."""

    host: str
    port: int | None

    @classmethod
    def of(cls, text: str, scheme: str = "") -> "Name | None":
        """Read NAME, NAME:PORT or [ADDRESS]:PORT; None if it is none of them."""
        if not text or any(sign in text for sign in "/?#@\\ ,"):
            return None
        try:
            parts = urlsplit(f"//{text}")
            host, port = parts.hostname, parts.port
        except ValueError:
            return None
        if not host:
            return None
        return cls(host=host.rstrip("."), port=None if port == _PORTS.get(scheme) else port)


class Hosts:
    """The names that a server answers to, and the pages that may ask it."""

    def __init__(self, host: str, allowed: Sequence[str], root_path: str | None) -> None:
        """host: the address to listen on. allowed: NAME or NAME:PORT. InputError for a wrong one.

        root_path: a path or a whole address under which a proxy serves the page.
        """
        listened = [] if host.strip("[]") in _ANY else [host]
        parts = urlsplit(root_path or "")
        public = [parts.netloc] if parts.netloc else []
        self._given = [_given(name) for name in (*allowed, *public)]
        own = [_given(f"[{one}]" if ":" in one and "[" not in one else one) for one in listened]
        self._hosts = {*_LOCAL, *(name.host for name in (*self._given, *own))}
        # A proxy says neither its own port nor, always, its own name.
        self._any_port = root_path is not None

    def answers_to(self, text: str, local: str | None) -> bool:
        """Return whether a Host header names this server.

        local: the address of this machine on which the request came in. A page of another site can
        make its own name lead here, but not this address.
        """
        name = Name.of(text)
        return name is not None and (name.host in self._hosts or name.host == local)

    def allows(self, origin: str, host: str, local: str | None) -> bool:
        """Return whether a page of this Origin header may ask the server.

        host: the name by which the same request knows the server.
        """
        scheme, _, text = origin.partition("://")
        name = Name.of(text, scheme) if scheme in _PORTS else None
        if name is None:
            return False
        if name == Name.of(host, scheme):
            return self.answers_to(host, local)
        given = [one for one in self._given if one.host == name.host]
        if given:
            return any(one.port in (None, name.port) for one in given)
        return self._any_port and name.host in self._hosts


def _given(text: str) -> Name:
    name = Name.of(text)
    if name is None:
        raise InputError(f"allowed_host is {text}; give a NAME or NAME:PORT, without http://")
    return name


class Proxies:
    """The reverse proxies that say where visitors come from."""

    def __init__(self, trusted: Iterable[str]) -> None:
        """trusted: addresses and networks. InputError for a wrong one."""
        self._trusted: list[_Network] = []
        for text in trusted:
            try:
                self._trusted.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                raise InputError(
                    f"trusted_proxy is {text}; give an address such as 127.0.0.1, or a network "
                    "such as 10.0.0.0/8"
                ) from None

    def visitor(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the address of a visitor: the last one that is not a trusted proxy's.

        peer: the address of the connection. forwarded: the X-Forwarded-For headers.
        """
        addresses = [part.strip() for text in forwarded for part in text.split(",")]
        found = peer
        while self._trusts(found) and addresses:
            after = addresses.pop()
            if _address(after) is None:
                break
            found = after
        return found

    def _trusts(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._trusted)


def counted(text: str) -> str:
    """Return what is counted as one address: of IPv6, the network of a single home."""
    address = _address(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return text if address is None else str(address)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address, with or without a port. An IPv4 one in IPv6's form is IPv4."""
    name = Name.of(text) if text.count(":") == 1 or text.startswith("[") else None
    try:
        address = ipaddress.ip_address(name.host if name else text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
