"""Fetch a clip from an address that a client names: from hosts the operator listed, over https.

The danger is the server's own network. A name is resolved once and every address it stands for must
be a public one; the connection goes to that address and no other, so a name that changes its answer
gains nothing. Redirects are followed by hand and checked like the first address. Nothing of the
client's request is passed on, and nothing from the environment (proxies, .netrc) is used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx

from service.contract.errors import ApiError
from service.contract.upload import Upload, UploadWriter

MOST_REDIRECTS = 3
MOST_URL_CHARS = 2048
HTTPS_PORT = 443
CHUNK_BYTES = 64 << 10
HEADERS = {"Accept": "video/*, application/octet-stream", "Accept-Encoding": "identity",
           "User-Agent": "xclip-serve"}  # fmt: skip
# Not for everybody, though `ipaddress` of some supported Python calls them global.
NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "64:ff9b::/96",  # a gateway turns these into IPv4 addresses of its choice
        "64:ff9b:1::/48",
        "fec0::/10",  # site-local
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # the host of Azure's virtual machines
    )
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]


def is_public(address: Address) -> bool:
    """Return whether an address, or the one within an IPv6 one, is a public one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None:
            return False
    if any(address in network for network in NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def resolve(host: str, port: int) -> list[str]:
    """Look up every address of a name, as the system knows them."""
    entries = await asyncio.get_running_loop().getaddrinfo(host, port, proto=6)
    return [str(entry[4][0]) for entry in entries]


class Fetcher:
    """Fetch clips for one server; `resolver`, `allowed` and `tls` are for tests without a net."""

    def __init__(
        self,
        hosts: Collection[str],
        *,
        timeout_s: float,
        max_bytes: int,
        directory: Path | None = None,
        resolver: Resolve = resolve,
        allowed: Callable[[Address], bool] = is_public,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._hosts = frozenset(hosts)
        self._timeout_s, self._max_bytes, self._directory = timeout_s, max_bytes, directory
        self._resolver, self._allowed = resolver, allowed
        self._tls = tls or ssl.create_default_context()

    async def fetch(self, url: str) -> Upload:
        """Fetch the file at an address; the caller closes it.

        Raises:
            ApiError: `video_url_refused`, `video_url_failed` or `upload_too_large`.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._follow(url)
        except TimeoutError:
            raise _failed(f"the video did not arrive within {self._timeout_s:g} s") from None

    async def _follow(self, url: str) -> Upload:
        for _ in range(MOST_REDIRECTS + 1):
            result = await self._get(url)
            if isinstance(result, Upload):
                return result
            url = result
        raise _failed(f"more than {MOST_REDIRECTS} redirects")

    async def _get(self, url: str) -> Upload | str:
        """Return the file, or the address that a redirect names."""
        parts = self._checked(url)
        host, port = parts.hostname or "", parts.port or HTTPS_PORT
        address = await self._address(host, port)
        named = host if port == HTTPS_PORT else f"{host}:{port}"
        request = httpx.Request(
            "GET",
            httpx.URL(scheme="https", host=address, port=port, raw_path=_raw_path(parts)),
            headers={**HEADERS, "Host": named},
            # The certificate must be the name's, though it is the address that is called.
            extensions={
                "sni_hostname": host,
                "timeout": httpx.Timeout(self._timeout_s).as_dict(),
            },
        )
        transport = httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False, retries=0)
        try:
            async with transport:
                response = await transport.handle_async_request(request)
                return await self._received(response, url)
        except httpx.HTTPError as error:
            raise _failed(f"the host cannot be reached ({type(error).__name__})") from None

    async def _received(self, response: httpx.Response, url: str) -> Upload | str:
        if response.status_code in (301, 302, 303, 307, 308):
            return str(urljoin(url, response.headers.get("location", "")))
        if response.status_code != httpx.codes.OK:
            raise _failed(f"the host answers with {response.status_code}")
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_bytes:
            raise self._too_large()
        writer = UploadWriter(self._directory)
        try:
            # As it came: a small answer must not unfold into a large one.
            async for chunk in response.aiter_raw(CHUNK_BYTES):
                if writer.size + len(chunk) > self._max_bytes:
                    raise self._too_large()
                await asyncio.to_thread(writer.write, chunk)
            return writer.finish()
        except BaseException:
            writer.close()
            raise

    def _checked(self, url: str) -> SplitResult:
        """Return the parts of an address, if it may be asked."""
        try:
            if len(url) > MOST_URL_CHARS or not url.isascii() or not url.isprintable():
                raise ValueError
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _refused("video_url is no valid address") from None
        if parts.scheme != "https":
            raise _refused("video_url must begin with https://")
        if parts.username is not None or parts.password is not None:
            raise _refused("video_url must not hold a user name or password")
        host = parts.hostname or ""
        named = host if port in (None, HTTPS_PORT) else f"{host}:{port}"
        if named not in self._hosts:
            raise _refused("video_url names a host that this server does not fetch from")
        return parts

    async def _address(self, host: str, port: int) -> str:
        """Return the one address to connect to."""
        try:
            addresses = await self._resolver(host, port)
        except OSError:
            raise _failed("the host of video_url cannot be found") from None
        if not addresses:
            raise _failed("the host of video_url cannot be found")
        # One that is not public spoils the name: whoever lists it is after our network.
        if not all(self._allowed(ipaddress.ip_address(a.partition("%")[0])) for a in addresses):
            raise _refused("the host of video_url is not on the public internet")
        return addresses[0]

    def _too_large(self) -> ApiError:
        return ApiError(
            "upload_too_large",
            f"the video is over {self._max_bytes} bytes; name a shorter or smaller one",
        )


def _raw_path(parts: SplitResult) -> bytes:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return path.replace(" ", "%20").encode("ascii")


def _refused(detail: str) -> ApiError:
    return ApiError("video_url_refused", detail)


def _failed(detail: str) -> ApiError:
    return ApiError("video_url_failed", detail)
