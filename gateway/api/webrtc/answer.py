"""The SDP answer to a WebRTC offer: one section for sound, one for data; all others are refused."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.api.webrtc.offer import Direction, Offer, Section

MAX_MESSAGE_BYTES = 262_144
"""Largest message that the gateway takes on a data channel: what browsers send at most."""

_NAMES: dict[tuple[bool, bool], Direction] = {
    (True, True): "sendrecv",
    (True, False): "sendonly",
    (False, True): "recvonly",
    (False, False): "inactive",
}


@dataclass(frozen=True)
class LocalTransport:
    """What the gateway's side of the transport tells the client."""

    ice_username: str
    ice_password: str
    fingerprints: Sequence[tuple[str, str]]
    candidates: Sequence[str]
    """The values of the `candidate` attributes."""
    is_dtls_server: bool
    ssrc: int
    cname: str
    sctp_port: int


def sends(offer: Offer) -> bool:
    """Whether the gateway sends sound: the client takes it."""
    return offer.sections[offer.sound].direction in ("sendrecv", "recvonly")


def receives(offer: Offer) -> bool:
    """Whether the client sends sound."""
    return offer.sections[offer.sound].direction in ("sendrecv", "sendonly")


def write_answer(offer: Offer, local: LocalTransport) -> str:
    """Return the answer to an offer, as text with the line ends of SDP."""
    number = int(time.time())
    taken = [index for index in (offer.sound, offer.data) if index is not None]
    lines = ["v=0", f"o=- {number} {number} IN IP4 127.0.0.1", "s=-", "t=0 0"]
    lines.append("a=group:BUNDLE " + " ".join(offer.sections[index].mid for index in sorted(taken)))
    lines.append("a=msid-semantic: WMS *")
    for index, section in enumerate(offer.sections):
        if index == offer.sound:
            lines += _sound(offer, section, local)
        elif index == offer.data:
            lines += _data(section, local)
        else:
            lines += [f"m={section.kind} 0 {section.protocol} {section.formats}", "c=IN IP4 0.0.0.0", "a=inactive"]
            lines += [f"a=mid:{section.mid}"] if section.mid else []
    return "".join(f"{line}\r\n" for line in lines)


def _sound(offer: Offer, section: Section, local: LocalTransport) -> list[str]:
    opus = offer.opus
    lines = [
        f"m=audio 9 {section.protocol} {opus}",
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        *_transport(section, local),
        f"a={_NAMES[sends(offer), receives(offer)]}",
        "a=rtcp-mux",
        f"a=rtpmap:{opus} opus/48000/2",
        f"a=fmtp:{opus} minptime=10;useinbandfec=1",
        "a=maxptime:60",
    ]
    if sends(offer):
        lines.append(f"a=msid:{local.cname} {local.cname}-sound")
        lines.append(f"a=ssrc:{local.ssrc} cname:{local.cname}")
    return lines


def _data(section: Section, local: LocalTransport) -> list[str]:
    return [
        f"m=application 9 {section.protocol} {section.formats}",
        "c=IN IP4 0.0.0.0",
        *_transport(section, local),
        f"a=sctp-port:{local.sctp_port}",
        f"a=max-message-size:{MAX_MESSAGE_BYTES}",
    ]


def _transport(section: Section, local: LocalTransport) -> list[str]:
    return [
        f"a=mid:{section.mid}",
        f"a=ice-ufrag:{local.ice_username}",
        f"a=ice-pwd:{local.ice_password}",
        *(f"a=fingerprint:{algorithm} {digest}" for algorithm, digest in local.fingerprints),
        f"a=setup:{'passive' if local.is_dtls_server else 'active'}",
        *(f"a=candidate:{candidate}" for candidate in local.candidates),
        "a=end-of-candidates",
    ]
