// The events of the server: each changes the conversation or one of its turns.

import { plainMessage } from "./errors.js";
import { int16FromBase64 } from "./pcm.js";
import { Turn } from "./turn.js";

const OUTCOMES = { completed: "completed", incomplete: "completed", cancelled: "interrupted", failed: "failed" };
const MAX_LAG_MS = 3000; // sound on its way to the server; more means that the two count differently

/** Handles the server's events for `talk`. */
export class ServerEvents {
  constructor(talk) {
    this.talk = talk;
    this.checks = new Map(); // the checks of system prompts under way, by name: what takes the answer
  }

  receive(event) {
    const { talk } = this;
    switch (event.type) {
      case "session.created":
        talk.streamS = 0;
        talk.configure({});
        break;
      case "session.updated":
        talk.onTranscribes(!event.ignored?.includes("session.audio.input.transcription"));
        break;
      case "input_audio_buffer.speech_started":
        talk.userSpeaks = true;
        talk.interrupt();
        talk.onChange(null);
        break;
      case "input_audio_buffer.speech_stopped":
        talk.userSpeaks = false;
        if (talk.mode === "free") this.beginSpoken(event.audio_end_ms);
        break;
      case "input_audio_buffer.committed":
        if (talk.current) talk.current.userItemId = event.item_id;
        break;
      case "conversation.item.input_audio_transcription.delta":
        this.updateUserText(event.item_id, (turn) => (turn.userText += event.delta));
        break;
      case "conversation.item.input_audio_transcription.completed":
        this.updateUserText(event.item_id, (turn) => (turn.userText = event.transcript));
        break;
      case "error":
        this.receiveError(event.error);
        break;
      default:
        if (event.type.startsWith("response.")) this.receiveReply(event);
    }
  }

  /** Turn detection ended the user's turn at `endMs` of the sound that was sent. Silence came before that. */
  beginSpoken(endMs) {
    const { talk } = this;
    const now = performance.now();
    const lagMs = talk.streamS * 1000 - endMs;
    const stoppedAt = lagMs >= 0 && lagMs < MAX_LAG_MS ? now - lagMs : now;
    talk.begin(new Turn(now, { spokenUntil: stoppedAt - talk.settings.silenceMs }));
  }

  receiveError(error) {
    const { talk } = this;
    const purpose = (error.event_id ?? "").split("_")[0];
    if (error.code === "session_expired") return; // the connection ends, and the next one goes on
    if (purpose === "stop") return; // the reply had ended by itself
    const message = plainMessage(error);
    if (purpose === "check") {
      for (const name of this.checks.keys()) this.answer(name, message);
      return;
    }
    if (error.param?.endsWith("audio.output.voice")) {
      talk.onVoiceLost();
      return;
    }
    const turn = talk.current;
    if (purpose !== "settings" && turn?.outcome === "waiting") talk.finish(turn, "failed", message);
    else talk.onError(message);
  }

  updateUserText(itemId, change) {
    const turn = this.talk.turns.findLast((candidate) => candidate.userItemId === itemId);
    if (!turn) return;
    change(turn);
    this.talk.onChange(turn);
  }

  receiveReply(event) {
    const { talk } = this;
    const check = event.response?.metadata?.check;
    if (check) {
      if (event.type === "response.done") this.answer(check, failureOf(event.response));
      return;
    }
    if (event.type === "response.created") {
      const waiting = talk.turns.find((candidate) => candidate.outcome === "waiting");
      const turn = waiting ?? new Turn(performance.now(), { spoken: false });
      if (!waiting) talk.turns.push(turn);
      turn.responseId = event.response.id;
      turn.outcome = "replying";
      talk.onChange(turn);
      return;
    }
    const id = event.response_id ?? event.response?.id;
    const turn = talk.turns.findLast((candidate) => candidate.responseId === id);
    if (!turn) return;
    const now = performance.now();
    switch (event.type) {
      case "response.output_item.added":
        turn.itemId = event.item.id;
        return;
      case "response.output_audio_transcript.delta":
        turn.mark("text", now);
        for (const { text, start_time: atS } of event.parts ?? [{ text: event.delta, start_time: event.start_time }]) {
          turn.pieces.push({ text, atS: atS ?? null });
        }
        break;
      case "response.output_audio.delta": {
        if (turn.playedOut) return;
        const samples = int16FromBase64(event.delta);
        turn.mark("sound", now);
        turn.keep(samples);
        talk.speaker.play(id, samples);
        break;
      }
      case "response.output_audio.done":
        talk.speaker.end(id);
        break;
      case "response.done":
        this.finishReply(turn, event.response);
        break;
      default:
        return;
    }
    talk.onChange(turn);
  }

  finishReply(turn, response) {
    const { talk } = this;
    turn.usage = response.usage ?? null;
    turn.server = response.timings ?? null;
    turn.outOfDomain = response.out_of_domain ?? [];
    talk.speaker.end(turn.responseId);
    if (turn.soundS === 0) turn.playedOut = true;
    const outcome = turn.outcome === "interrupted" ? "interrupted" : (OUTCOMES[response.status] ?? "failed");
    talk.finish(turn, outcome, failureOf(response));
    const error = response.status_details?.error;
    if (error?.code === "not_found" && error.message.startsWith("no voice")) talk.onVoiceLost();
  }

  /** Return a promise of the answer to a check: a message, empty when all is well. */
  checked(name) {
    return new Promise((resolve) => this.checks.set(name, resolve));
  }

  answer(name, message) {
    this.checks.get(name)?.(message);
    this.checks.delete(name);
  }

  /** The connection ended: no answer comes any more. */
  forget() {
    for (const name of this.checks.keys()) this.answer(name, "");
  }
}

/** Why a response failed, for the user; empty: it did not. */
function failureOf(response) {
  if (response.status !== "failed") return "";
  return plainMessage(response.status_details?.error ?? { message: "The turn failed." });
}
