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
    this.socket = null;
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
      const event = JSON.parse(data);
      if (event.type === "session.created") {
        this.sessionId = event.session.id;
        created = true;
      }
      this.onEvent(event);
    };
    socket.onclose = async ({ code }) => {
      if (code === REFUSED && !created) this.sessionId = "";
      // A browser does not tell why a server refuses a WebSocket. Another call does.
      const reason = opened ? null : await ask("v1/models").catch((error) => error);
      this.retry(reason);
    };
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
    setTimeout(() => this.connect(), pause * (0.8 + 0.4 * Math.random()));
  }

  get open() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  send(event) {
    if (this.open) this.socket.send(JSON.stringify(event));
  }

  /**
   * @param {object} settings voice, instructions (empty: the server's default), transcribe,
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

  /** Send the user's sound, Int16 at 24 kHz. */
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

  /** Send a written turn and ask for its reply. */
  say(text) {
    const item = { type: "message", role: "user", content: [{ type: "input_text", text }] };
    this.send({ type: "conversation.item.create", item });
    this.send({ type: "response.create" });
  }

  cancel() {
    this.send({ type: "response.cancel" });
  }

  /** Tell the server how much of a reply was played. */
  truncate(itemId, playedS) {
    const audio_end_ms = Math.floor(playedS * 1000);
    this.send({ type: "conversation.item.truncate", item_id: itemId, content_index: 0, audio_end_ms });
  }
}
