// The conversation: joins microphone, connection and loudspeaker. It does not touch the document.

import { int16FromBase64, SAMPLE_RATE_HZ } from "./pcm.js";
import { Microphone } from "./microphone.js";
import { Turn } from "./turn.js";

const MIN_SPEECH_S = 0.2;
const OUTCOMES = { completed: "completed", incomplete: "completed", cancelled: "interrupted", failed: "failed" };

/**
 * The state of the conversation. Two modes: "push" (hold to talk) and "free" (the server detects the turns).
 * `onChange(turn)` is called when a turn has changed, and `onChange(null)` when the phase has changed.
 * `onError(message)` gets messages for the user.
 */
export class Talk {
  constructor(realtime, speaker) {
    this.realtime = realtime;
    this.speaker = speaker;
    this.onChange = () => {};
    this.onError = () => {};
    this.mode = "push";
    this.microphone = null;
    this.listening = false; // the microphone's sound is sent to the server
    this.spokenS = 0; // sound sent since the button went down
    this.userSpeaks = false; // the server detects speech
    this.level = 0;
    this.connection = "connecting";
    this.turns = [];
    this.stats = { buffered_s: 0, underruns: 0 };
    this.settings = { voice: "", instructions: "", transcribe: false, threshold: 0.5, silenceMs: 500, prefixMs: 300 };
    realtime.onEvent = (event) => this.receive(event);
    realtime.onState = (state) => this.connected(state);
    speaker.onReport = (report) => this.updatePlayback(report);
  }

  /** "offline", "idle", "ready" (the microphone is open), "listening" (the user speaks), "waiting" or "speaking". */
  get phase() {
    if (this.connection !== "open") return "offline";
    if (this.mode === "push" ? this.listening : this.userSpeaks) return "listening";
    const turn = this.current;
    if (turn && turn.played.first !== null && !turn.playedOut) return "speaking";
    if (turn && !turn.over) return "waiting";
    return this.listening ? "ready" : "idle";
  }

  get current() {
    return this.turns.at(-1) ?? null;
  }

  configure(settings) {
    for (const [name, value] of Object.entries(settings)) {
      if (name in this.settings) this.settings[name] = value;
    }
    const { threshold, silenceMs, prefixMs } = this.settings;
    const turns = this.mode === "free" ? { threshold, silenceMs, prefixMs } : null;
    if (this.settings.voice) this.realtime.configure({ ...this.settings, turns });
  }

  async setMode(mode) {
    if (mode === this.mode) return;
    if (this.listening) this.listening = false;
    this.mode = mode;
    this.userSpeaks = false;
    this.realtime.clear();
    this.configure({});
    if (mode === "push") await this.closeMicrophone();
    this.onChange(null);
  }

  /** Push to talk: the button was pressed. Interrupts a reply. */
  async press() {
    await this.openMicrophone();
    this.interrupt();
    this.realtime.clear();
    this.spokenS = 0;
    this.listening = true;
    this.onChange(null);
  }

  /** Push to talk: the button was released. Commits the user's turn. */
  release() {
    if (!this.listening) return;
    this.listening = false;
    if (this.spokenS < MIN_SPEECH_S) {
      this.realtime.clear();
      this.onError("Hold the button for as long as you speak.");
      this.onChange(null);
      return;
    }
    this.begin(new Turn(performance.now()));
    this.realtime.commit();
  }

  /** Hands-free: open the microphone, or close it. */
  async toggle() {
    if (this.listening) {
      this.listening = false;
      this.userSpeaks = false;
      this.realtime.clear();
      await this.closeMicrophone();
    } else {
      await this.openMicrophone();
      this.listening = true;
    }
    this.onChange(null);
  }

  async write(text) {
    await this.speaker.open();
    this.interrupt();
    this.begin(new Turn(performance.now(), { spoken: false, text }));
    this.realtime.say(text);
  }

  /** Stop the reply, and tell the server how much of it was played. */
  interrupt() {
    const turn = this.current;
    if (!turn?.responseId || turn.playedOut) return;
    const running = !turn.over;
    turn.playedOut = true;
    this.speaker.stop(turn.responseId);
    if (turn.itemId && turn.soundS > 0) this.realtime.truncate(turn.itemId, turn.playedS); // stops a running reply too
    else if (running) this.realtime.cancel();
    turn.outcome = "interrupted";
    this.onChange(turn);
  }

  async openMicrophone() {
    await this.speaker.open();
    if (this.microphone) return;
    this.microphone = await Microphone.open();
    this.microphone.onPiece = (samples, level) => {
      this.level = this.listening ? level : 0;
      if (!this.listening) return;
      this.spokenS += samples.length / SAMPLE_RATE_HZ;
      this.realtime.append(samples);
    };
  }

  async closeMicrophone() {
    const { microphone } = this;
    this.microphone = null;
    this.level = 0;
    await microphone?.close();
  }

  begin(turn) {
    this.turns.push(turn);
    this.onChange(turn);
  }

  connected(state) {
    this.connection = state;
    if (state === "lost" || state === "refused") {
      this.userSpeaks = false;
      const turn = this.current;
      if (turn && !turn.over) this.finish(turn, "failed", "The connection was lost.");
    }
    this.onChange(null);
  }

  /** Handle an event of the server. */
  receive(event) {
    switch (event.type) {
      case "session.created":
        this.configure({});
        break;
      case "session.updated":
        if (event.ignored?.includes("session.audio.input.transcription")) {
          this.onError("This server does not transcribe speech (CHROMA_TRANSCRIBE is off).");
        }
        break;
      case "input_audio_buffer.speech_started":
        this.userSpeaks = true;
        this.interrupt();
        this.onChange(null);
        break;
      case "input_audio_buffer.speech_stopped":
        this.userSpeaks = false;
        if (this.mode === "free") this.begin(new Turn(performance.now()));
        break;
      case "input_audio_buffer.committed":
        if (this.current) this.current.userItemId = event.item_id;
        break;
      case "conversation.item.input_audio_transcription.delta":
        this.updateUserText(event.item_id, (turn) => (turn.userText += event.delta));
        break;
      case "conversation.item.input_audio_transcription.completed":
        this.updateUserText(event.item_id, (turn) => (turn.userText = event.transcript));
        break;
      case "conversation.item.input_audio_transcription.failed":
        this.onError(event.error.message);
        break;
      case "error":
        if (event.error.code === "session_expired") break; // the connection ends, and the next one goes on
        this.onError(event.error.message);
        this.failUnanswered(event.error.message);
        break;
      default:
        if (event.type.startsWith("response.")) this.receiveReply(event);
    }
  }

  updateUserText(itemId, change) {
    const turn = this.turns.findLast((candidate) => candidate.userItemId === itemId);
    if (!turn) return;
    change(turn);
    this.onChange(turn);
  }

  receiveReply(event) {
    if (event.type === "response.created") {
      const waiting = this.turns.find((candidate) => candidate.outcome === "waiting");
      const turn = waiting ?? new Turn(performance.now(), { spoken: false });
      if (!waiting) this.turns.push(turn);
      turn.responseId = event.response.id;
      turn.outcome = "replying";
      this.onChange(turn);
      return;
    }
    const id = event.response_id ?? event.response?.id;
    const turn = this.turns.findLast((candidate) => candidate.responseId === id);
    if (!turn) return;
    const now = performance.now();
    switch (event.type) {
      case "response.output_item.added":
        turn.itemId = event.item.id;
        return;
      case "response.output_audio_transcript.delta":
        turn.mark("text", now);
        turn.pieces.push({ text: event.delta, atS: event.start_time ?? null });
        break;
      case "response.output_audio.delta": {
        if (turn.playedOut) return;
        const samples = int16FromBase64(event.delta);
        turn.mark("sound", now);
        turn.soundS += samples.length / SAMPLE_RATE_HZ;
        this.speaker.play(id, samples);
        break;
      }
      case "response.output_audio.done":
        this.speaker.end(id);
        break;
      case "response.done":
        this.finishReply(turn, event.response);
        break;
      default:
        return;
    }
    this.onChange(turn);
  }

  finishReply(turn, response) {
    turn.usage = response.usage ?? null;
    turn.server = response.timings ?? null;
    this.speaker.end(turn.responseId);
    if (turn.soundS === 0) turn.playedOut = true;
    const outcome = OUTCOMES[response.status] ?? "failed";
    const failure = response.status_details?.error?.message ?? "The turn failed.";
    this.finish(turn, turn.outcome === "interrupted" ? "interrupted" : outcome, failure);
  }

  finish(turn, outcome, failure) {
    turn.outcome = outcome;
    if (outcome === "failed") turn.failure = failure;
    if (outcome === "interrupted" && !turn.playedOut) {
      turn.playedOut = true;
      this.speaker.stop(turn.responseId);
    }
    this.onChange(turn);
  }

  /** An error instead of a reply ends the turn that waits for a reply. */
  failUnanswered(message) {
    const turn = this.current;
    if (turn?.outcome === "waiting") this.finish(turn, "failed", message);
  }

  /** Take the loudspeaker's report. */
  updatePlayback({ reply, started, finished, played_s, buffered_s, underruns }) {
    const turn = this.turns.findLast((candidate) => candidate.responseId === reply);
    if (!turn) return;
    if (started && played_s > turn.playedS) turn.mark("played", performance.now());
    turn.playedS = played_s;
    this.stats.underruns += underruns - turn.underruns;
    this.stats.buffered_s = buffered_s;
    turn.underruns = underruns;
    if (finished) turn.playedOut = true;
    this.onChange(turn);
  }
}
