"""An SDP offer in the form in which browsers make it."""

from __future__ import annotations

CANDIDATE = "a=candidate:1 1 udp 2113937151 198.51.100.7 50000 typ host generation 0"

_TRANSPORT = """c=IN IP4 0.0.0.0
a=ice-ufrag:8hhY
a=ice-pwd:asd88fgpdd777uzjYhagZgasd88fgpdd
a=ice-options:trickle
a=fingerprint:sha-256 19:E2:1C:3B:4B:9F:81:E6:B8:5C:F4:A5:A8:D8:73:04:BB:05:2F:70:9F:04:A9:0E:05:E9:26:33:E8:70:88:A2
a=setup:actpass"""

OFFER = f"""v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1 2
a=msid-semantic: WMS
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8
{_TRANSPORT}
{CANDIDATE}
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=sendrecv
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:0 PCMU/8000
a=ssrc:1234 cname:page
m=video 9 UDP/TLS/RTP/SAVPF 96
{_TRANSPORT}
a=mid:1
a=sendrecv
a=rtcp-mux
a=rtpmap:96 VP8/90000
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
{_TRANSPORT}
a=mid:2
a=sctp-port:5000
a=max-message-size:262144
""".replace("\n", "\r\n")
