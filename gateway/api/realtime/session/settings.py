"""The settings of one Realtime connection, and how they become the settings of its session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.access.caller import Caller
from gateway.api.catalog import voice_of_field
from gateway.api.errors import BadParameter
from gateway.api.prompt_size import check_prompt_size
from gateway.api.realtime.session.session import Format, RealtimeSession
from gateway.api.realtime.session.update import SessionIn
from gateway.conversation.backend import Backend
from gateway.conversation.conversation import Conversation
from gateway.conversation.options import check_change
from services.common.errors import ChromaError, InvalidArgument


class ConnectionSettings:
    """The settings that the client sent. The texts of system items are a part of the session's system prompt."""

    def __init__(
        self,
        session: RealtimeSession,
        config: SessionConfig,
        conversation: Conversation,
        system_texts: Callable[[], list[str]],
        backend: Backend,
        caller: Caller,
    ) -> None:
        """`config` holds the settings of the stored session. `system_texts` returns the texts of the system items."""
        self.session = session
        """The settings in use. Change them with `update`."""
        self.fixed_format: Format | None = None
        """The format of sound both ways, where the client cannot choose it. None: it can."""
        self._config = config
        self._conversation = conversation
        self._system_texts = system_texts
        self._backend = backend
        self._caller = caller

    async def update(self, update: SessionIn) -> None:
        """Change the settings. Raises BadParameter, InvalidArgument, Unavailable."""
        updated = await self._updated(update, "session")
        await self._check_size(self._session_config(updated), "session")
        before = self.session
        try:
            self._conversation.set_options(updated.options)
        except InvalidArgument as error:  # the user's turn has audio in the format so far
            param = f"session.{update.input_format_field}"
            raise BadParameter(param, f"{param}: {error.message}", "invalid_value") from None
        try:
            if before.store and not updated.store:
                await self._conversation.stop_storing()
                before = replace(before, store=False)
            self.session = updated
            await self.store()
        except ChromaError:
            self.session = before
            self._conversation.set_options(before.options)
            raise

    async def store(self) -> None:
        """Update the stored session's settings if the connection's settings or system items changed them."""
        config = self._session_config(self.session)
        if config != self._config:
            await self._conversation.configure(config)
            self._config = config

    async def of_response(
        self, wanted: SessionIn, system_texts: list[str] | None = None
    ) -> tuple[RealtimeSession, SessionConfig]:
        """Return the settings of one response. `system_texts` take the place of the texts of the system items.

        Raises BadParameter, InvalidArgument, Unavailable.
        """
        session = await self._updated(wanted, "response")
        config = self._session_config(session, system_texts)
        check_change(config, max_prompt_chars=self._backend.settings.max_prompt_chars)
        await self._check_size(config, "response")
        return session, config

    def changes(self, config: SessionConfig) -> bool:
        """Whether settings of a response are others than the stored ones."""
        return config != self._config

    async def _check_size(self, config: SessionConfig, where: str) -> None:
        """Raise BadParameter for instructions and tools that leave no room for a conversation: fields of `where`."""
        if (config.system_prompt, config.tools) != (self._config.system_prompt, self._config.tools):
            await check_prompt_size(self._backend, config, f"{where}.instructions", f"{where}.tools")

    async def _updated(self, update: SessionIn, where: str) -> RealtimeSession:
        """The settings after `update`, which is the field `where` of its event."""
        updated = self.session.updated(update, where)
        if self.fixed_format is not None:
            updated = replace(updated, input_format=self.fixed_format, output_format=self.fixed_format)
        max_chars = self._backend.settings.max_prompt_chars
        if (chars := len(updated.instructions)) > max_chars:
            param = f"{where}.instructions"
            raise BadParameter(param, f"{param}: expected at most {max_chars} characters, got {chars}", "invalid_value")
        updated.tools.message(max_chars=max_chars, where=where)
        if updated.voice == self.session.voice:
            return updated
        param = f"{where}.{update.voice_field}"
        return replace(updated, voice=await voice_of_field(self._backend, self._caller.tenant, updated.voice, param))

    def _session_config(self, session: RealtimeSession, system_texts: list[str] | None = None) -> SessionConfig:
        if system_texts is None:
            system_texts = self._system_texts()
        config = SessionConfig()
        config.CopyFrom(self._config)
        config.voice_id = session.voice
        prompt = "\n\n".join(text for text in (session.instructions, *system_texts) if text)
        if prompt or config.HasField("system_prompt"):
            config.system_prompt = prompt
        if session.temperature is not None:
            config.sampling.temperature = session.temperature
        if session.tools.functions or (session.can_use_tools and config.HasField("tools")):
            max_chars = self._backend.settings.max_prompt_chars
            config.tools.CopyFrom(session.tools.message(max_chars=max_chars, where="session"))
        return config
