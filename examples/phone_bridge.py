"""A bridge between a telephone line and the model: RTP with mu-law (PCMU, 8 kHz) on one side, gRPC on the other.

A call over Asterisk's ExternalMedia, FreeSWITCH or a SIP trunk sends RTP to the port, and gets the replies at the
address from which its packets come. One call at a time.

python examples/phone_bridge.py 127.0.0.1:50051 --port 4000
"""

from __future__ import annotations

import argparse
import asyncio
import struct
import sys
import time

import numpy as np
from numpy.typing import NDArray

from chroma_voice import AudioDelta, ChromaError, Client, Conversation, SpeechStarted, TurnDetection, TurnStarted

RATE_HZ = 8_000
PACKET_SAMPLES = 160
PACKET_S = PACKET_SAMPLES / RATE_HZ
HEADER = struct.Struct(">BBHII")
PCMU = 0
SILENCE = b"\xff"
_BIAS = 132


def decode(mulaw: bytes) -> bytes:
    """Return 16-bit samples of mu-law (ITU-T G.711)."""
    codes = ~np.frombuffer(mulaw, np.uint8)
    exponent, mantissa = (codes >> 4) & 7, codes & 15
    magnitude = ((mantissa.astype(np.int32) << 3) + _BIAS << exponent) - _BIAS
    return np.where(codes & 0x80, -magnitude, magnitude).astype("<i2").tobytes()


def encode(samples: NDArray[np.int16]) -> bytes:
    """Return the mu-law of 16-bit samples [S]."""
    magnitude = np.minimum(np.abs(samples.astype(np.int32)), 32635) + _BIAS
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 15
    sign = np.where(samples < 0, 0x80, 0)
    return (~(sign | (exponent << 4) | mantissa)).astype(np.uint8).tobytes()


class Line(asyncio.DatagramProtocol):
    """The telephone line: it keeps what the caller says, and plays what it is given, a packet every 20 ms."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue(500)
        self._caller: tuple[str, int] | None = None
        self._waiting = bytearray()
        self._rest = np.zeros(0, np.int16)
        self._played = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        """Keep the socket."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Keep the sound of a packet. Packets of other codings are ignored."""
        if len(data) > HEADER.size and data[0] >> 6 == 2 and data[1] & 0x7F == PCMU and not self.heard.full():
            self._caller = addr
            self.heard.put_nowait(decode(data[HEADER.size + 4 * (data[0] & 15) :]))

    @property
    def is_playing(self) -> bool:
        """Whether there is sound to play."""
        return bool(self._waiting)

    def begin(self) -> None:
        """Begin the count of a new reply."""
        self._played = 0

    def play(self, samples: NDArray[np.int16]) -> None:
        """Add samples at 24 kHz. Three become one, by their mean."""
        samples = np.concatenate((self._rest, samples))
        whole = len(samples) // 3 * 3
        self._rest = samples[whole:]
        self._waiting += encode(samples[:whole].reshape(-1, 3).mean(axis=1).astype(np.int16))

    def interrupt(self) -> float:
        """Drop what was not played. Returns the seconds that were."""
        self._waiting.clear()
        return self._played / RATE_HZ

    async def run(self) -> None:
        """Send a packet every 20 ms once the caller's address is known."""
        number, start_s = 0, time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, start_s + number * PACKET_S - time.monotonic()))
            piece = bytes(self._waiting[:PACKET_SAMPLES])
            if self._caller is not None:
                del self._waiting[:PACKET_SAMPLES]
                self._played += len(piece)
                head = HEADER.pack(0x80, PCMU, number & 0xFFFF, number * PACKET_SAMPLES & 0xFFFFFFFF, 0x43485256)
                self._transport.sendto(head + piece.ljust(PACKET_SAMPLES, SILENCE), self._caller)
            number += 1


async def listen(line: Line, talk: Conversation) -> None:
    """Send what the caller says."""
    while True:
        await talk.send_audio(await line.heard.get())


async def main(address: str, port: int) -> None:
    """Serve the line until Ctrl-C."""
    loop = asyncio.get_running_loop()
    _, line = await loop.create_datagram_endpoint(Line, local_addr=("0.0.0.0", port))
    async with (
        Client(address) as client,
        client.conversation(input_rate_hz=RATE_HZ, turn_detection=TurnDetection()) as talk,
    ):
        tasks = [asyncio.create_task(work) for work in (listen(line, talk), line.run())]
        print(f"RTP on port {port}", flush=True)
        async for event in talk.events():
            match event:
                case SpeechStarted() if line.is_playing:
                    await talk.cancel(played_s=line.interrupt())
                case TurnStarted():
                    line.begin()
                case AudioDelta():
                    line.play(event.samples)
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("gateway")
    parser.add_argument("--port", type=int, default=4000)
    asked = parser.parse_args()
    try:
        asyncio.run(main(asked.gateway, asked.port))
    except KeyboardInterrupt:
        pass
    except ChromaError as error:
        sys.exit(f"error: {error}")
