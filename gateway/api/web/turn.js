// One turn: both texts, the reply's sound, and the times at which this page saw its parts.

import { SAMPLE_RATE_HZ } from "./pcm.js";

/** Times are in milliseconds of `performance.now()`. null: it did not happen. */
export class Turn {
  /**
   * @param {number} committedAt when the user's turn ended
   * @param {{spoken?: boolean, text?: string, spokenUntil?: number}} options `spokenUntil`: when the user's last word
   *   ended, where silence ended the turn
   */
  constructor(committedAt, { spoken = true, text = "", spokenUntil = committedAt } = {}) {
    this.committedAt = committedAt;
    this.beganAt = spokenUntil; // the zero of all times that are shown
    this.spoken = spoken;
    this.userText = text;
    this.userItemId = null;
    this.responseId = null;
    this.itemId = null;
    this.pieces = []; // of the reply's text: {text, atS: the second of the reply's sound at which it starts, or null}
    this.outcome = "waiting"; // then "replying", then "completed", "interrupted" or "failed"
    this.failure = "";
    this.outOfDomain = []; // sentences of the reply that the checkpoint cannot say, by its own card
    this.isLost = false; // the connection ended during the turn
    this.isRestored = false; // the turn is of an earlier visit: there is no sound and no timing of it
    this.text = { first: null, last: null };
    this.sound = { first: null, last: null };
    this.played = { first: null, last: null };
    this.chunks = []; // the reply's sound, Int16 at 24 kHz
    this.soundS = 0;
    this.playedS = 0;
    this.playedOut = false;
    this.underruns = 0;
    this.server = null; // the gateway's timings in seconds since the commit, if it sent them
    this.usage = null;
  }

  /**
   * A turn of an earlier visit, made of its items in the stored session.
   * @param {{text: string, audio_seconds: number} | undefined} said
   * @param {{text: string, heard_text: string} | undefined} reply
   */
  static restored(turnId, said, reply, userText) {
    const spoken = (said?.audio_seconds ?? 0) > 0;
    const turn = new Turn(0, { spoken, text: said?.text || userText });
    turn.responseId = responseOf(turnId);
    turn.isRestored = true;
    turn.playedOut = true;
    const heard = reply?.heard_text ?? "";
    const rest = (reply?.text ?? "").slice(heard.length);
    if (heard) turn.pieces.push({ text: heard, atS: null });
    if (rest) turn.pieces.push({ text: rest, atS: Infinity });
    turn.outcome = rest ? "interrupted" : "completed";
    return turn;
  }

  get turnId() {
    return this.responseId === null ? "" : `turn-${this.responseId.replace("resp_", "")}`;
  }

  mark(what, at) {
    this[what].first ??= at;
    this[what].last = at;
  }

  /** Keep a piece of the reply's sound, for playing it again. */
  keep(samples) {
    this.chunks.push(samples);
    this.soundS += samples.length / SAMPLE_RATE_HZ;
  }

  get replyText() {
    return this.pieces.map((piece) => piece.text).join("");
  }

  /** Milliseconds from the user's last word to the first sound; null before that. */
  get firstSoundMs() {
    return this.played.first === null ? null : this.played.first - this.beganAt;
  }

  get over() {
    return ["completed", "interrupted", "failed"].includes(this.outcome);
  }

  /**
   * The waterfall's rows in milliseconds since the user's last word, from there to the loudspeaker.
   * The gateway's times count from its receipt of the commit, so they differ from the page's by the network's delay.
   */
  rows() {
    const server = this.server ?? {};
    const waitMs = this.committedAt - this.beganAt;
    const seconds = (first, last) =>
      first == null ? null : { start: waitMs + first * 1000, end: waitMs + (last ?? first) * 1000 };
    const seen = ({ first, last }) => (first === null ? null : { start: first - this.beganAt, end: last - this.beganAt });
    return [
      { name: "Silence", kind: "silence", span: waitMs > 0 ? { start: 0, end: waitMs } : null },
      { name: "Heard", kind: "heard", span: server.heard_s == null ? null : seconds(0, server.heard_s) },
      { name: "Text", kind: "text", span: seconds(server.first_thought_s, server.last_thought_s) ?? seen(this.text) },
      { name: "Speech", kind: "speech", span: seconds(server.first_frame_s, server.last_frame_s) },
      { name: "Sound", kind: "sound", span: seen(this.sound) },
      { name: "Played", kind: "played", span: seen(this.played) },
    ].filter((row) => row.span);
  }
}

function responseOf(turnId) {
  return `resp_${turnId.replace("turn-", "")}`;
}
