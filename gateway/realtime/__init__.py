"""OpenAI's Realtime API over a WebSocket, mapped onto a `Conversation`. Read `connection.py` first."""
