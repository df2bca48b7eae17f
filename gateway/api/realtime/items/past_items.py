"""The items of the past turns of a stored session."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.api.realtime.items.items import Item, item_id_of, reply_content
from gateway.store.records import FRAMES_PER_THOUGHT, TurnRecord
from services.common.wire.audio import FRAME_S


def past_items(turns: Sequence[TurnRecord], *, beta: bool) -> list[Item]:
    """Return the items that the turns of a session are, oldest first. Their ids are those of every connection."""
    items: list[Item] = []
    for turn in turns:
        if turn.user:
            content = [
                {"type": "input_text", "text": part}
                if isinstance(part, str)
                else {"type": "input_audio", "transcript": None}
                for part in turn.user
            ]
            items.append(Item(item_id_of(turn.turn_id, "user"), "user", content, turn.turn_id, parts=len(content)))
        if turn.texts:
            is_read = not turn.output_audio_s
            content = [reply_content(turn.heard_text, text_only=is_read, beta=beta)]
            reply = Item(item_id_of(turn.turn_id, "assistant"), "assistant", content, turn.turn_id)
            reply.status = "completed" if turn.heard_tokens == len(turn.texts) else "incomplete"
            thought_ms = round(FRAMES_PER_THOUGHT * FRAME_S * 1000)
            heard = turn.texts[: turn.heard_tokens]
            reply.spoken = [(index * thought_ms, text) for index, text in enumerate(heard)]
            reply.audio_ms = int(turn.output_audio_s * 1000)
            items.append(reply)
    return items
