// A client of /v1/realtime: OpenAI's Realtime events over one WebSocket, nothing else.

import { SAMPLE_RATE_HZ, toBase64 } from "./pcm.js";

const FORMAT = { type: "audio/pcm", rate: SAMPLE_RATE_HZ };
const REFUSED = 1008; // close code: what was asked for cannot be had, such as a session that has expired
const RETRY_MS = [500, 1000, 2000, 4000, 8000];

/**
 * The connection, made again with growing pauses when it is lost; the session goes on.
 * `onEvent` gets every server event, `onState` one of "connecting", "open", "lost".
 */
export class Realtime {
  constructor(url) {
    this.url = url;
    this.sessionId = "";
    this.apiKey = ""; // browsers set no headers on a WebSocket: it travels as a subprotocol, as OpenAI's clients do it
    this.onEvent = () => {};
    this.onState = () => {};
    this.attempts = 0;
    this.socket = null;
    this.timer = 0;
  }

  /** Connect now and begin a new session, whatever was. */
  reconnect() {
    this.sessionId = "";
    clearTimeout(this.timer);
    if (this.socket) this.socket.onclose = null;
    this.socket?.close();
    this.connect();
  }

  connect() {
    this.onState("connecting");
    const key = this.apiKey ? [`openai-insecure-api-key.${this.apiKey}`] : [];
    const url = new URL(this.url);
    if (this.sessionId) url.searchParams.set("session_id", this.sessionId);
    const socket = new WebSocket(url, ["realtime", ...key]);
    this.socket = socket;
    socket.onopen = () => {
      this.attempts = 0;
      this.onState("open");
    };
    socket.onmessage = ({ data }) => {
      const event = JSON.parse(data);
      if (event.type === "session.created") this.sessionId = event.session.id;
      this.onEvent(event);
    };
    socket.onclose = ({ code }) => {
      if (code === REFUSED) this.sessionId = "";
      this.onState("lost");
      const pause = RETRY_MS[Math.min(this.attempts, RETRY_MS.length - 1)];
      this.attempts += 1;
      this.timer = setTimeout(() => this.connect(), pause * (0.8 + 0.4 * Math.random()));
    };
  }

  get open() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  send(event) {
    if (this.open) this.socket.send(JSON.stringify(event));
  }

  /**
   * @param {object} settings voice, instructions (empty: the server's own), transcribe,
   *   turns: null for push to talk, else {threshold, silenceMs, prefixMs}
   */
  configure({ voice, instructions, transcribe, turns }) {
    const session = {
      type: "realtime",
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
    if (instructions) session.instructions = instructions;
    this.send({ type: "session.update", session });
  }

  /** The user's sound, Int16 at 24 kHz. */
  append(samples) {
    const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
    this.send({ type: "input_audio_buffer.append", audio: toBase64(bytes) });
  }

  clear() {
    this.send({ type: "input_audio_buffer.clear" });
  }

  /** End a spoken turn and ask for its reply. */
  commit() {
    this.send({ type: "input_audio_buffer.commit" });
    this.send({ type: "response.create" });
  }

  /** A written turn. */
  say(text) {
    const item = { type: "message", role: "user", content: [{ type: "input_text", text }] };
    this.send({ type: "conversation.item.create", item });
    this.send({ type: "response.create" });
  }

  cancel() {
    this.send({ type: "response.cancel" });
  }

  /** Tell how much of a reply was heard. */
  truncate(itemId, playedS) {
    const audio_end_ms = Math.floor(playedS * 1000);
    this.send({ type: "conversation.item.truncate", item_id: itemId, content_index: 0, audio_end_ms });
  }
}
