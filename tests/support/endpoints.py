"""The endpoints of a stack as its launcher writes them into the state folder."""

from __future__ import annotations

from chroma_voice.local.state import Endpoints

ENDPOINTS = Endpoints(
    gateway="127.0.0.1:1",
    page="http://127.0.0.1:8080/",
    reasoner="127.0.0.1:3",
    speech_gen="127.0.0.1:4",
    codec="127.0.0.1:5",
    redis_url="redis://:secret@127.0.0.1:6/0",
    metrics={"gateway": "127.0.0.1:7"},
    model="/models/tiny",
    random_weights=True,
    pids={"gateway": 8},
    drain_s=120.0,
)
