"""Client of chroma-voice: conversations, sessions and voices, without torch.

async with Client("127.0.0.1:50051") as client:
    async with client.conversation(voice="amber") as talk:
        await talk.send_text("Please tell me how to make a taco.")
        await talk.commit()
        async for event in talk.reply():
            ...
"""

from chroma_voice.client import Client
from chroma_voice.consent import Consent, ConsentedVoice
from chroma_voice.conversation import Conversation
from chroma_voice.errors import (
    AlreadyExists,
    ChromaError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from chroma_voice.events import (
    AudioDelta,
    EndsSoon,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    Timings,
    ToolCall,
    TurnDone,
    TurnStarted,
    UserTranscript,
)
from chroma_voice.patience import Patience
from chroma_voice.reply import Reply
from chroma_voice.session import Entry, Sampling, Session, SessionSettings
from chroma_voice.sync import SyncClient, SyncConversation, SyncReply
from chroma_voice.tools import Tool, ToolResult, Tools
from chroma_voice.turn_detection import TurnDetection
from chroma_voice.voice import Voice

__version__ = "0.1.0"

__all__ = [
    "AlreadyExists",
    "AudioDelta",
    "ChromaError",
    "Client",
    "Consent",
    "ConsentedVoice",
    "Conversation",
    "DeadlineExceeded",
    "EndsSoon",
    "Entry",
    "FailedPrecondition",
    "InvalidArgument",
    "NotFound",
    "OutOfRange",
    "Patience",
    "PermissionDenied",
    "Reply",
    "ResourceExhausted",
    "Sampling",
    "Session",
    "SessionSettings",
    "SpeechStarted",
    "SpeechStopped",
    "SyncClient",
    "SyncConversation",
    "SyncReply",
    "TextDelta",
    "Timings",
    "Tool",
    "ToolCall",
    "ToolResult",
    "Tools",
    "TurnDetection",
    "TurnDone",
    "TurnStarted",
    "Unauthenticated",
    "Unavailable",
    "UserTranscript",
    "Voice",
]
