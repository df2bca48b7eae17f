"""What plays replies to a client, where the gateway and not the client does it: over WebRTC and telephone lines."""

from __future__ import annotations

from typing import Protocol


class Player(Protocol):
    """Plays the speech of replies, one reply after the other."""

    def stop(self, turn_id: str = "") -> dict[str, int]:
        """Play nothing more of the replies that are being played or wait for it, nor of the reply of this turn.

        Returns for each of them, by turn id, the milliseconds of it that were played.
        """
        ...
