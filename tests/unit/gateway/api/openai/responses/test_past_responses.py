"""Earlier responses, read back link by link."""

from __future__ import annotations

from typing import cast

import pytest

from gateway.api.openai.chat.past_turns import Result
from gateway.api.openai.responses.past_responses import MAX_KEPT_CHARS, Entry, PastResponses, Spoken
from gateway.store.records import ToolCall
from gateway.store.replies import Replies
from services.common.errors import NotFound


class _Replies:
    """Texts in memory, by tenant and id."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, str], str] = {}

    async def keep(self, tenant: str, audio_id: str, text: str) -> int:
        self.texts[tenant, audio_id] = text
        return 0

    async def text(self, tenant: str, audio_id: str) -> str:
        try:
            return self.texts[tenant, audio_id]
        except KeyError:
            raise NotFound("no audio") from None


@pytest.fixture
def replies() -> _Replies:
    """The texts that are kept."""
    return _Replies()


@pytest.fixture
def past(replies: _Replies) -> PastResponses:
    """The responses of a tenant."""
    return PastResponses(cast(Replies, replies), "tenant")


async def test_a_conversation_is_read_back_over_its_responses_and_may_branch(past: PastResponses) -> None:
    call = ToolCall("c1", "look", "{}")
    await past.keep("resp_1", {"fc_1": call}, [Spoken("system", "Be kind."), Spoken("user", "one")], None)
    await past.keep("resp_2", {"msg_2": Spoken("assistant", "two")}, [Result("c1", "20")], "resp_1")
    await past.keep("resp_3", {}, [Spoken("user", "other")], "resp_1")
    first: list[Entry] = [Spoken("system", "Be kind."), Spoken("user", "one"), call]
    assert await past.conversation("resp_2") == [*first, Result("c1", "20"), Spoken("assistant", "two")]
    assert await past.conversation("resp_3") == [*first, Spoken("user", "other")]


async def test_an_item_is_found_by_its_id_without_its_response(past: PastResponses) -> None:
    await past.keep("resp_1", {"msg_1": Spoken("assistant", "Hi"), "fc_1": ToolCall("c1", "look", "{}")}, None, None)
    assert await past.item("msg_1") == Spoken("assistant", "Hi")
    assert await past.item("fc_1") == ToolCall("c1", "look", "{}")
    with pytest.raises(NotFound, match="no response 'resp_1'"):
        await past.conversation("resp_1")  # its input had speech


async def test_a_response_that_is_too_long_is_not_kept(past: PastResponses) -> None:
    await past.keep("resp_1", {}, [Spoken("user", "x" * MAX_KEPT_CHARS)], None)
    with pytest.raises(NotFound):
        await past.conversation("resp_1")


async def test_a_conversation_whose_start_has_expired_goes_on_without_it(
    past: PastResponses, replies: _Replies
) -> None:
    await past.keep("resp_1", {}, [Spoken("user", "one")], None)
    await past.keep("resp_2", {}, [Spoken("user", "two")], "resp_1")
    del replies.texts["tenant", "resp_1"]
    assert await past.conversation("resp_2") == [Spoken("user", "two")]


async def test_a_circle_of_responses_ends(past: PastResponses) -> None:
    await past.keep("resp_1", {}, [Spoken("user", "one")], "resp_1")
    assert len(await past.conversation("resp_1")) == 64


@pytest.mark.parametrize("name", ["audio-1", "msg_1", "resp_gone", ""])
async def test_what_is_no_response_is_not_found_and_named(past: PastResponses, replies: _Replies, name: str) -> None:
    replies.texts["tenant", "audio-1"] = "the text of a reply"
    with pytest.raises(NotFound, match=f"no response {name!r}"):
        await past.conversation(name)


async def test_another_tenant_finds_nothing(past: PastResponses, replies: _Replies) -> None:
    await past.keep("resp_1", {"msg_1": Spoken("assistant", "Hi")}, [Spoken("user", "one")], None)
    other = PastResponses(cast(Replies, replies), "other")
    with pytest.raises(NotFound):
        await other.conversation("resp_1")
    with pytest.raises(NotFound):
        await other.item("msg_1")
