// A client of /v1/realtime: OpenAI's Realtime events over one WebSocket.

import { SAMPLE_RATE_HZ, toBase64 } from "./pcm.js";
import { ask, socketCredential } from "./server.js";

const FORMAT = { type: "audio/pcm", rate: SAMPLE_RATE_HZ };
const REFUSED = 1008; // close code of a refused connection: before `session.created`, there is no such session
const RETRY_MS = [500, 1000, 2000, 4000, 8000];

/**
 * The connection. When it is lost it is opened again, with growing pauses, and the session continues.
 * `onEvent` gets every server event, `onState` one of "connecting", "open", "lost". `onRefused(error)`: the server wants
 * another credential; then no further attempt is made.
 *
 * The id of each client event begins with what the event is for, so that an `error` event tells what failed: "turn",
 * "settings", "check" (of a system prompt), or "stop" (a reply that may have ended by itself).
 */
export class Realtime {
  constructor(url) {
    this.url = url;
    this.sessionId = "";
    this.onEvent = () => {};
    this.onState = () => {};
    this.onRefused = () => {};
    this.started = false;
    this.attempts = 0;
    this.sent = 0;
    this.socket = null;
    this.timer = 0; // of the next attempt
  }

  /** Open the connection, and again whenever it is lost. */
  async connect() {
    this.started = true;
    this.onState("connecting");
    let credential;
    try {
      credential = await socketCredential();
    } catch (error) {
      this.retry(error);
      return;
    }
    // As a subprotocol, as OpenAI's clients send it: browsers set no headers on a WebSocket.
    const offered = credential ? [`openai-insecure-api-key.${credential}`] : [];
    const url = new URL(this.url);
    if (this.sessionId) url.searchParams.set("session_id", this.sessionId);
    const socket = new WebSocket(url, ["realtime", ...offered]);
    this.socket = socket;
    let opened = false;
    let created = false;
    socket.onopen = () => {
      opened = true;
      this.attempts = 0;
      this.onState("open");
    };
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return;
      const event = JSON.parse(data);
      if (event.type === "session.created") {
        this.sessionId = event.session.id;
        created = true;
      }
      this.onEvent(event);
    };
    socket.onclose = async ({ code }) => {
      if (socket !== this.socket) return; // another conversation has begun
      if (code === REFUSED && !created) this.sessionId = "";
      this.retry(opened ? null : await this.whyRefused());
    };
  }

  /** A browser does not tell why a server refuses a WebSocket. Other calls do. */
  async whyRefused() {
    try {
      await ask("v1/models");
      if (this.sessionId) await ask(`v1/sessions/${encodeURIComponent(this.sessionId)}`);
    } catch (error) {
      if (error.status === 404) this.sessionId = ""; // the session has expired
      return error;
    }
    return null;
  }

  /** Connect again after a pause, unless the error says that the credential is wrong. */
  retry(error) {
    if (error?.refused) {
      this.started = false;
      this.onRefused(error);
      return;
    }
    this.onState("lost");
    const pause = RETRY_MS[Math.min(this.attempts, RETRY_MS.length - 1)];
    this.attempts += 1;
    this.timer = setTimeout(() => this.connect(), pause * (0.8 + 0.4 * Math.random()));
  }

  /** Leave this session and begin another one. */
  async renew() {
    const { socket } = this;
    clearTimeout(this.timer);
    this.socket = null;
    this.sessionId = "";
    this.attempts = 0;
    socket?.close();
    await this.connect();
  }

  get open() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  /** Send an event. Return its id, which begins with `purpose`. */
  send(purpose, event) {
    this.sent += 1;
    const id = `${purpose}_${this.sent}`;
    if (this.open) this.socket.send(JSON.stringify({ ...event, event_id: id }));
    return id;
  }

  /**
   * @param {object} settings voice, instructions (empty: the server's default), transcribe,
   *   turns: null for push to talk, else {threshold, silenceMs, prefixMs}
   */
  configure({ voice, instructions, transcribe, turns }) {
    const session = {
      type: "realtime",
      instructions,
      output_modalities: ["audio"],
      audio: {
        input: {
          format: FORMAT,
          transcription: transcribe ? { model: "chroma" } : null,
          turn_detection: turns && {
            type: "server_vad",
            threshold: turns.threshold,
            silence_duration_ms: turns.silenceMs,
            prefix_padding_ms: turns.prefixMs,
            create_response: true,
            interrupt_response: true,
          },
        },
        output: { format: FORMAT, voice },
      },
    };
    this.send("settings", { type: "session.update", session });
  }

  /** Send the user's sound, Int16 at 24 kHz. */
  append(samples) {
    const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
    this.send("turn", { type: "input_audio_buffer.append", audio: toBase64(bytes) });
  }

  clear() {
    this.send("stop", { type: "input_audio_buffer.clear" });
  }

  /** End a spoken turn and ask for its reply. */
  commit() {
    this.send("turn", { type: "input_audio_buffer.commit" });
    this.send("turn", { type: "response.create" });
  }

  /** Send a written turn and ask for its reply. */
  say(text) {
    this.send("turn", { type: "conversation.item.create", item: message(text) });
    this.send("turn", { type: "response.create" });
  }

  /** Ask for one token outside the conversation: the model reads the system prompt. Return the name of the check. */
  check(instructions) {
    const name = `check-${this.sent}`;
    const response = {
      conversation: "none",
      metadata: { check: name },
      output_modalities: ["text"],
      max_output_tokens: 1,
      instructions,
      input: [message("Hello.")],
    };
    this.send("check", { type: "response.create", response });
    return name;
  }

  cancel() {
    this.send("stop", { type: "response.cancel" });
  }

  /** Tell the server how much of a reply was played. */
  truncate(itemId, playedS) {
    const audio_end_ms = Math.floor(playedS * 1000);
    this.send("stop", { type: "conversation.item.truncate", item_id: itemId, content_index: 0, audio_end_ms });
  }
}

function message(text) {
  return { type: "message", role: "user", content: [{ type: "input_text", text }] };
}
