"""One spoken turn with a running gateway, over HTTP: `helm test` runs it in the gateway's image.

    python hold_turn.py URL RECORDING TIMEOUT_S

It asks with a recording, in a voice that it brings (the same recording), and looks at the sound of the reply. The API
key is in CHROMA_API_KEY, and may be missing where the gateway asks for none. Exit status 0: the reply has sound.
"""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import time
import urllib.error
import urllib.request
import wave

TRANSCRIPT = "He was not an ill disposed young man."
CONSENT = "LibriVox recording, public domain"
TRIES = 3
"""Questions until a reply has sound: a model with random weights may end its speech at once."""


def question(recording: bytes) -> bytes:
    """The body of the request: a short reply to a recording, in the voice of that recording."""
    sound = base64.b64encode(recording).decode()
    body = {
        "model": "chroma",
        "messages": [{"role": "user", "content": [{"type": "audio", "audio": sound}]}],
        "prompt_audio": sound,
        "prompt_text": TRANSCRIPT,
        "prompt_consent": CONSENT,
        "max_tokens": 120,
        "return_audio": True,
    }
    return json.dumps(body).encode()


def seconds_of(wav: bytes) -> float:
    """How long a WAV file is. Its header may not know: what counts is the sound that is there."""
    with wave.open(io.BytesIO(wav)) as sound:
        frames = len(sound.readframes(sound.getnframes())) / (sound.getsampwidth() * sound.getnchannels())
        return frames / sound.getframerate()


def main() -> int:
    url, recording, timeout_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
    with open(recording, "rb") as file:
        body = question(file.read())
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("CHROMA_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(f"{url}/v1/chat/completions", data=body, headers=headers)
    for _ in range(TRIES):
        began = time.monotonic()
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                reply = json.load(answer)
        except urllib.error.HTTPError as error:
            print(f"{url} answers with status {error.code}: {error.read().decode(errors='replace')}")
            if error.code == 401:
                print("Put an API key (scopes talk, voices) into the Secret that test.keySecret names, as `key`.")
            return 1
        except OSError as error:
            print(f"no answer from {url}: {error}")
            return 1
        sound_s = seconds_of(base64.b64decode(reply["audio"]))
        text = reply["choices"][0]["message"]["content"]
        print(f"{sound_s:.2f} s of sound after {time.monotonic() - began:.1f} s, with the text: {text}")
        if sound_s:
            return 0
    print("No reply has sound.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
