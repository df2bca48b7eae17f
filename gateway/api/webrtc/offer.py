"""The SDP offer of a WebRTC client: the few of its lines that the gateway needs, checked and bounded.

An offer comes from anybody who has a key, so nothing in it is believed: no name in it is looked up, and no address in
it is used before `gateway.api.webrtc.ice` has allowed it.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Literal

from gateway.api.errors import BadParameter

MAX_SDP_BYTES = 64 * 1024
_MAX_LINES = 2_000
_MAX_SECTIONS = 16
_MAX_CANDIDATES = 64

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
_DIRECTIONS: tuple[Direction, ...] = ("sendrecv", "sendonly", "recvonly", "inactive")
Setup = Literal["actpass", "active", "passive"]

_SECTION = re.compile(
    r"(audio|video|application|text|message|image) ([0-9]{1,5})(?:/[0-9]+)? ([A-Za-z0-9/]{1,32}) (.{1,256})"
)
_MID = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,32}")
_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PASSWORD = re.compile(r"[A-Za-z0-9+/]{22,256}")
_CANDIDATE = re.compile(
    r"candidate:[A-Za-z0-9+/]{1,32} ([0-9]{1,5}) ([A-Za-z]{2,8}) ([0-9]{1,10}) ([^ ]{1,255}) ([0-9]{1,5})"
    r" typ ([a-z]{2,8})( .*)?"
)
_MDNS = re.compile(r"[A-Za-z0-9-]{1,63}\.local")
_DIGEST_BYTES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
_OPUS = re.compile(r"([0-9]{1,3}) opus/48000/2", re.IGNORECASE)
_DATA_PROTOCOLS = ("UDP/DTLS/SCTP", "TCP/DTLS/SCTP")
_SOUND_PROTOCOLS = ("UDP/TLS/RTP/SAVPF", "TCP/TLS/RTP/SAVPF", "RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVP")

_DEFAULT_MESSAGE_BYTES = 65_536
"""What a client takes that does not say how large a message may be (RFC 8841)."""
_DEFAULT_SCTP_PORT = 5_000


@dataclass(frozen=True)
class RemoteCandidate:
    """An address at which the client says that it can be reached over UDP."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int
    priority: int
    kind: Literal["host", "srflx", "relay"]


@dataclass
class Section:
    """One `m=` section: a kind of media that the client offers."""

    kind: str
    port: int
    protocol: str
    formats: str
    attributes: dict[str, list[str]] = field(default_factory=dict)
    """The values of each attribute, in order. A flag has an empty value."""

    @property
    def mid(self) -> str:
        """The name of the section."""
        return _first(self.attributes, "mid")

    @property
    def direction(self) -> Direction:
        """Who sends."""
        found: list[Direction] = [name for name in _DIRECTIONS if name in self.attributes]
        return found[0] if found else "sendrecv"

    @property
    def opus(self) -> int | None:
        """The payload type of Opus. None: the section does not offer it."""
        if self.kind != "audio" or self.protocol not in _SOUND_PROTOCOLS:
            return None
        offered = self.formats.split()
        for value in self.attributes.get("rtpmap", []):
            if (found := _OPUS.fullmatch(value)) and found[1] in offered and int(found[1]) < 128:
                return int(found[1])
        return None

    @property
    def is_data(self) -> bool:
        """Whether the section is for data channels."""
        is_offered = self.protocol in _DATA_PROTOCOLS and self.formats == "webrtc-datachannel"
        return self.kind == "application" and is_offered


@dataclass(frozen=True)
class Offer:
    """What a client offers, as far as the gateway takes it."""

    sections: list[Section]
    sound: int
    """Index of the section that carries the sound."""
    data: int | None
    """Index of the section for data channels. None: the client has none."""
    ice_username: str
    ice_password: str
    fingerprints: list[tuple[str, str]]
    """Digests of the client's certificate: the algorithm, and bytes in hexadecimal with colons."""
    setup: Setup
    candidates: list[RemoteCandidate]
    sctp_port: int = _DEFAULT_SCTP_PORT
    max_message_bytes: int = _DEFAULT_MESSAGE_BYTES

    @property
    def opus(self) -> int:
        """The payload type of Opus."""
        payload_type = self.sections[self.sound].opus
        assert payload_type is not None, "the section was chosen for it"
        return payload_type


def read_offer(text: str) -> Offer:
    """Read an offer. Raises BadParameter for anything that a browser would not send."""
    session, sections = _sections(text)
    sound = next((index for index, section in enumerate(sections) if section.opus is not None), None)
    if sound is None:
        raise _bad("expected a section for sound with the codec opus/48000/2")
    data = next((index for index, section in enumerate(sections) if section.is_data and section.port), None)
    used = [sections[sound], *([sections[data]] if data is not None else [])]
    _check_bundle(session, used)
    transport = {**session, **sections[sound].attributes}
    username, password = _first(transport, "ice-ufrag"), _first(transport, "ice-pwd")
    if not _UFRAG.fullmatch(username) or not _PASSWORD.fullmatch(password):
        raise _bad("expected ice-ufrag and ice-pwd of the client")
    if "rtcp-mux" not in sections[sound].attributes:
        raise _bad("expected rtcp-mux: sound and its reports share a port")
    sctp = sections[data].attributes if data is not None else {}
    return Offer(
        sections,
        sound,
        data,
        username,
        password,
        _fingerprints(transport),
        _setup(transport),
        [
            found
            for section in used
            for value in section.attributes.get("candidate", [])
            if (found := _candidate(value))
        ],
        _number(sctp, "sctp-port", _DEFAULT_SCTP_PORT, 65_535),
        _number(sctp, "max-message-size", _DEFAULT_MESSAGE_BYTES, 2**31 - 1),
    )


def _sections(text: str) -> tuple[dict[str, list[str]], list[Section]]:
    """The attributes of the whole session, and its sections."""
    lines = text.replace("\r\n", "\n").strip("\n").split("\n")
    if lines[0] != "v=0":
        raise _bad("expected an offer in the form of the Session Description Protocol, which begins with v=0")
    if len(lines) > _MAX_LINES:
        raise _bad(f"expected at most {_MAX_LINES} lines, got {len(lines)}")
    session: dict[str, list[str]] = {}
    sections: list[Section] = []
    for line in lines:
        if not line.isprintable():
            raise _bad("expected lines without control characters")
        name, separator, value = line.partition("=")
        if len(name) != 1 or not separator:
            raise _bad(f"expected lines such as a=mid:0, got {line[:40]!r}")
        if name == "m":
            sections.append(_section(value))
            if len(sections) > _MAX_SECTIONS:
                raise _bad(f"expected at most {_MAX_SECTIONS} sections of media, got more")
        elif name == "a":
            attribute, _, value = (
                value.partition(":") if not value.startswith("candidate") else ("candidate", "", value)
            )
            (sections[-1].attributes if sections else session).setdefault(attribute, []).append(value)
    candidates = sum(len(section.attributes.get("candidate", [])) for section in sections)
    if candidates > _MAX_CANDIDATES:
        raise _bad(f"expected at most {_MAX_CANDIDATES} candidates, got {candidates}")
    return session, sections


def _section(value: str) -> Section:
    found = _SECTION.fullmatch(value)
    if found is None or int(found[2]) > 65_535:
        raise _bad(f"expected a section such as m=audio 9 UDP/TLS/RTP/SAVPF 111, got m={value[:60]!r}")
    return Section(found[1], int(found[2]), found[3], found[4])


def _check_bundle(session: dict[str, list[str]], used: list[Section]) -> None:
    """Check that sound and data share one transport, and that the sections have names."""
    names = [section.mid for section in used]
    if not all(map(_MID.fullmatch, names)) or len(set(names)) != len(names):
        raise _bad("expected a mid of its own for each section")
    groups = [group.split() for group in session.get("group", [])]
    if len(used) > 1 and not any(group[:1] == ["BUNDLE"] and set(names) <= set(group[1:]) for group in groups):
        raise _bad("expected the sections for sound and data in one BUNDLE group")


def _fingerprints(attributes: dict[str, list[str]]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for value in attributes.get("fingerprint", [])[:8]:
        algorithm, _, digest = value.partition(" ")
        size = _DIGEST_BYTES.get(algorithm.lower())
        if size is None:
            continue
        if not re.fullmatch(f"[0-9A-Fa-f]{{2}}(:[0-9A-Fa-f]{{2}}){{{size - 1}}}", digest):
            raise _bad(f"expected a fingerprint of {size} bytes in hexadecimal for {algorithm}")
        found.append((algorithm.lower(), digest.upper()))
    if not found:
        raise _bad(f"expected a fingerprint of the client's certificate: {', '.join(_DIGEST_BYTES)}")
    return found


def _setup(attributes: dict[str, list[str]]) -> Setup:
    match _first(attributes, "setup"):
        case "active":
            return "active"
        case "passive":
            return "passive"
        case "" | "actpass":
            return "actpass"
        case other:
            raise _bad(f"expected setup:actpass, active or passive, got {other[:20]!r}")


def _candidate(value: str) -> RemoteCandidate | None:
    """A candidate that can be used; None for one that cannot: TCP, another component, a name of multicast DNS."""
    found = _CANDIDATE.fullmatch(value)
    if found is None:
        raise _bad(f"expected a candidate such as candidate:1 1 udp 1 192.0.2.1 50000 typ host, got {value[:60]!r}")
    component, protocol, priority, host, port, kind, _ = found.groups()
    if int(priority) >= 2**32 or int(port) > 65_535:
        raise _bad(f"expected a port up to 65535 and a priority up to 4294967295 in a candidate, got {value[:60]!r}")
    if _MDNS.fullmatch(host):
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise _bad(f"expected IP addresses in the candidates, got {host[:60]!r}") from None
    if component != "1" or protocol.lower() != "udp" or not int(port):
        return None
    if kind == "host" or kind == "srflx" or kind == "relay":
        return RemoteCandidate(address, int(port), int(priority), kind)
    return None


def _number(attributes: dict[str, list[str]], name: str, default: int, most: int) -> int:
    value = _first(attributes, name)
    if not value:
        return default
    if not re.fullmatch(r"[0-9]{1,19}", value):
        raise _bad(f"expected a number as {name}, got {value[:20]!r}")
    if name == "sctp-port" and not 0 < int(value) <= most:
        raise _bad(f"expected a port as {name}, got {value}")
    return min(int(value), most)


def _first(attributes: dict[str, list[str]], name: str) -> str:
    values = attributes.get(name)
    return values[0] if values else ""


def _bad(message: str) -> BadParameter:
    return BadParameter("sdp", f"sdp: {message}")
