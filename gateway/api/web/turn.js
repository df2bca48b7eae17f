// One turn: both texts, and the times at which this page saw its parts.

/** Times are in milliseconds of `performance.now()`. null: it did not happen. */
export class Turn {
  /** @param {number} committedAt when the user's turn ended */
  constructor(committedAt, { spoken = true, text = "" } = {}) {
    this.committedAt = committedAt;
    this.spoken = spoken;
    this.userText = text;
    this.responseId = null;
    this.itemId = null;
    this.pieces = []; // of the reply's text: {text, atS: the second of the reply's sound at which it starts, or null}
    this.outcome = "waiting"; // then "replying", then "completed", "interrupted" or "failed"
    this.failure = "";
    this.text = { first: null, last: null };
    this.sound = { first: null, last: null };
    this.played = { first: null, last: null };
    this.soundS = 0;
    this.playedS = 0;
    this.underruns = 0;
    this.server = null; // the gateway's timings in seconds since the commit, if it sent them
    this.usage = null;
  }

  mark(what, at) {
    this[what].first ??= at;
    this[what].last = at;
  }

  get replyText() {
    return this.pieces.map((piece) => piece.text).join("");
  }

  /** Milliseconds from the end of the user's turn to the first sound; null before that. */
  get firstSoundMs() {
    return this.played.first === null ? null : this.played.first - this.committedAt;
  }

  get over() {
    return ["completed", "interrupted", "failed"].includes(this.outcome);
  }

  /**
   * The waterfall's rows in milliseconds since the commit, from the end of the user's turn to the loudspeaker.
   * The gateway's times count from its receipt of the commit, so they differ from the page's by the network's delay.
   */
  rows() {
    const server = this.server ?? {};
    const seconds = (first, last) => (first == null ? null : { start: first * 1000, end: (last ?? first) * 1000 });
    const seen = ({ first, last }) =>
      first === null ? null : { start: first - this.committedAt, end: last - this.committedAt };
    return [
      { name: "Heard", kind: "heard", span: server.heard_s == null ? null : { start: 0, end: server.heard_s * 1000 } },
      { name: "Text", kind: "text", span: seconds(server.first_thought_s, server.last_thought_s) ?? seen(this.text) },
      { name: "Speech", kind: "speech", span: seconds(server.first_frame_s, server.last_frame_s) },
      { name: "Sound", kind: "sound", span: seen(this.sound) },
      { name: "Played", kind: "played", span: seen(this.played) },
    ].filter((row) => row.span);
  }
}
