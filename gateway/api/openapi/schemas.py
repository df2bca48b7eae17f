"""The parts of the OpenAPI description that no pydantic model gives: schemas of answers and forms, and parameters."""

from __future__ import annotations

from gateway.store.voices import MAX_PAGE_SIZE

REF = "#/components/schemas/"

CONSENT = "A voice belongs to a person: state in `consent` who agreed to its cloning, and how."

TEXT = {"type": "string"}
RECORDING = {"type": "string", "format": "binary", "description": "At most 16 MiB and `CHROMA_MAX_INPUT_S` s."}
TRANSCRIPT = {
    "type": "object",
    "required": ["text", "usage"],
    "properties": {
        "text": TEXT,
        "usage": {
            "type": "object",
            "properties": {"type": {"const": "duration"}, "seconds": {"type": "number"}},
        },
        "language": {"type": "string", "description": "In `verbose_json`: the one that the request names."},
        "duration": {"type": "number", "description": "In `verbose_json`: seconds of the recording."},
    },
}
VOICE = {
    "type": "object",
    "required": ["id", "object", "name", "transcript", "consent", "duration_s", "created_at"],
    "properties": {
        "id": TEXT,
        "object": {"const": "voice"},
        "name": TEXT,
        "transcript": TEXT,
        "consent": {"type": "string", "description": "Empty for a caller without the scope `voices`."},
        "consent_id": {"type": ["string", "null"], "description": "The record of the consent."},
        "duration_s": {"type": "number", "description": "Seconds of the recording."},
        "created_at": {"type": "integer", "description": "Seconds since the epoch."},
    },
}
CONSENT_RECORD = {
    "type": "object",
    "properties": {
        "id": TEXT,
        "object": {"const": "consent"},
        "subject": {"type": "string", "description": "The person who agreed, as the caller named the person."},
        "words": {"type": "string", "description": "Who agreed, and how."},
        "recording_sha256": {"type": "string", "description": "SHA-256 of the recording's file."},
        "tenant": TEXT,
        "key_id": {"type": "string", "description": "The key whose caller stated the consent."},
        "created_at": {"type": "integer", "description": "Seconds since the epoch."},
        "revoked_at": {"type": ["integer", "null"]},
        "revoked_by": {"type": ["string", "null"]},
        "voices": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": TEXT,
                    "created_at": {"type": "integer"},
                    "erased_at": {"type": ["integer", "null"], "description": "Null: the voice is there."},
                },
            },
        },
    },
}
DELETED = {
    "type": "object",
    "properties": {
        "id": TEXT,
        "deleted": {"const": True},
        "erasure": {
            "type": "object",
            "description": "How far the erasure of the copies has come.",
            "properties": {
                "file_rewritten": {
                    "type": "boolean",
                    "description": "Whether the store's append-only file was rewritten without the data.",
                },
                "pending_replicas": {
                    "type": "integer",
                    "description": "Replicas that have not yet acknowledged that they forgot it. They are asked again.",
                },
            },
        },
    },
}
PAGE = [
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE}},
    {"name": "after", "in": "query", "schema": {"type": "string"}},
]
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Names the request: sent again within a day, it returns the voice of the first time.",
    "schema": {"type": "string", "maxLength": 200},
}
SESSION = {
    "type": "object",
    "description": "A `session` object as in the event `session.update` of OpenAI's Realtime API.",
}
CLIENT_SECRET = {
    "type": "object",
    "required": ["value", "expires_at", "session"],
    "properties": {
        "value": {"type": "string", "description": "The secret. It begins with `ek_` and is told only here."},
        "expires_at": {"type": "integer", "description": "Seconds since the epoch."},
        "session": SESSION,
    },
}
ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "What was expected and what came, for people."},
                "type": TEXT,
                "param": {"type": ["string", "null"], "description": "The field that is wrong."},
                "code": {"type": ["string", "null"], "description": "A name of the problem for programs."},
            },
        }
    },
}
SAMPLE = {
    "type": "string",
    "format": "binary",
    "description": "A recording of any common kind (WAV, MP3, M4A, WebM), 1 to 30 s, at most 16 MiB.",
}
VOICE_FORM = {
    "file": SAMPLE,
    "transcript": {"type": "string", "description": "The words of the recording, exactly."},
    "consent": {"type": "string", "description": "Who agreed to the cloning of this voice, and how."},
    "consent_subject": {"type": "string", "description": "The person who agreed."},
    "voice_id": {"type": "string", "description": "Empty: the server makes an id."},
    "name": {"type": "string", "description": "A name for people. Empty: the id."},
}
AUDIO_VOICE_FORM = {
    "name": {"type": "string", "description": "A name for people."},
    "audio_sample": SAMPLE,
    "consent": {"type": "string", "description": "The id of a recorded consent, or who agreed and how, in words."},
    "type": {"const": "audio_sample"},
    "transcript": {
        "type": "string",
        "description": "An extension: the words of the sample. May be missing where `CHROMA_TRANSCRIBE` is on.",
    },
    "consent_subject": {"type": "string", "description": "An extension: the person who agreed."},
    "voice_id": {"type": "string", "description": "An extension. Empty: the server makes an id."},
}
VOICE_CONSENT_FORM = {
    "name": {"type": "string", "description": "The person who agrees."},
    "language": {"type": "string", "description": "BCP 47 tag of the statement's language, such as `en-US`."},
    "recording": {"type": "string", "format": "binary", "description": "The statement, at most 60 s and 16 MiB."},
}
AUDIO = {
    "AudioVoice": {
        "type": "object",
        "properties": {
            "id": TEXT,
            "object": {"const": "audio.voice"},
            "name": TEXT,
            "created_at": {"type": "integer", "description": "Seconds since the epoch."},
            "type": {"const": "audio_sample"},
        },
    },
    "VoiceConsent": {
        "type": "object",
        "properties": {
            "id": TEXT,
            "object": {"const": "audio.voice_consent"},
            "name": TEXT,
            "language": TEXT,
            "created_at": {"type": "integer", "description": "Seconds since the epoch."},
        },
    },
}
