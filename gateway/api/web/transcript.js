// The transcript of the conversation: both texts of each turn, and beside them the turn's timing.

import { waterfall } from "./waterfall.js";

const NARROW = matchMedia("(max-width: 820px)"); // as in style.css
const STUCK_PX = 80; // when the view is this near to the end, it follows the conversation

/** Shows the turns in `list`, which scrolls in `frame`. `voiceName()` returns the name of the voice. */
export class Transcript {
  constructor(list, frame, voiceName) {
    this.list = list;
    this.frame = frame;
    this.voiceName = voiceName;
    this.views = new Map();
  }

  /** Show the present state of a turn. */
  show(turn) {
    const follows = this.frame.scrollHeight - this.frame.scrollTop - this.frame.clientHeight < STUCK_PX;
    let view = this.views.get(turn);
    if (!view) {
      if (NARROW.matches) for (const older of this.views.values()) older.timing.open = false;
      view = new TurnView(this.voiceName());
      this.views.set(turn, view);
      this.list.append(view.root);
    }
    view.show(turn);
    if (follows) this.frame.scrollTop = this.frame.scrollHeight;
  }
}

class TurnView {
  constructor(voiceName) {
    this.root = make("article", "turn");
    const words = make("div", "words");
    this.you = make("p", "you");
    this.reply = make("p", "reply");
    this.fate = make("p", "fate");
    words.append(this.you, this.reply, this.fate);
    this.timing = make("details", "timing");
    this.timing.open = true;
    this.timing.setAttribute("aria-live", "off");
    this.summary = make("summary");
    this.chart = make("div");
    this.footnote = make("p");
    this.timing.append(this.summary, this.chart, this.footnote);
    this.root.append(words, this.timing);
    this.voiceName = voiceName;
    this.drawn = "";
    this.spans = [];
  }

  show(turn) {
    this.root.setAttribute("aria-busy", String(!turn.over)); // screen readers read a turn when it has ended
    const asked = turn.userText || (turn.spoken ? "Spoken" : "");
    this.you.hidden = !asked;
    if (this.you.dataset.text !== asked) {
      this.you.dataset.text = asked;
      this.you.replaceChildren(who("You"), asked);
    }
    this.showReply(turn);
    const fate = fateOf(turn);
    this.fate.hidden = !fate;
    this.fate.className = `fate ${turn.outcome}`;
    if (this.fate.textContent !== fate) this.fate.textContent = fate;
    this.showTiming(turn);
  }

  showReply(turn) {
    if (this.spans.length === 0) {
      const waits = turn.outcome === "waiting" || turn.outcome === "replying";
      this.reply.hidden = !waits && turn.pieces.length === 0;
      if (!this.reply.hasChildNodes() || !waits) this.reply.replaceChildren(who(this.voiceName));
      if (waits && this.reply.childNodes.length === 1) this.reply.append(dots());
    }
    if (turn.pieces.length > 0 && this.spans.length === 0) this.reply.replaceChildren(who(this.voiceName));
    for (const { text } of turn.pieces.slice(this.spans.length)) {
      const span = make("span");
      span.textContent = text;
      this.spans.push(span);
      this.reply.append(span);
    }
    turn.pieces.forEach(({ atS }, i) => {
      const ahead = atS !== null && atS > turn.playedS && turn.outcome !== "failed";
      let name = "";
      if (ahead && turn.outcome === "interrupted") name = "unheard";
      else if (ahead && !turn.playedOut) name = "ahead";
      if (this.spans[i].className !== name) this.spans[i].className = name;
    });
  }

  showTiming(turn) {
    const rows = turn.rows();
    this.timing.hidden = rows.length === 0;
    if (rows.length === 0) return;
    const drawn = JSON.stringify([rows, turn.underruns, turn.over, turn.usage]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const first = turn.firstSoundMs;
    if (first !== null) this.summary.replaceChildren(bold(`${Math.round(first)} ms`), " to the first sound");
    else if (turn.over && turn.soundS === 0) this.summary.replaceChildren("No sound");
    else this.summary.replaceChildren(bold("…"), " until the first sound");
    this.chart.replaceChildren(waterfall(rows));
    this.footnote.replaceChildren(...footnote(turn));
  }
}

function fateOf(turn) {
  if (turn.outcome === "failed") return turn.failure;
  if (turn.outcome === "interrupted") return `Interrupted after ${turn.playedS.toFixed(1)} s`;
  if (turn.outcome === "completed" && turn.soundS === 0) return "An empty reply: the model ended its speech at once.";
  return "";
}

function footnote(turn) {
  const parts = [`${turn.soundS.toFixed(1)} s of speech`];
  if (turn.usage) parts.push(`${turn.usage.input_tokens} tokens in, ${turn.usage.output_tokens} out`);
  parts.push(underruns(turn.underruns));
  return parts.flatMap((part, i) => {
    const span = make("span");
    span.textContent = part;
    return i ? [" · ", span] : [span];
  });
}

/** Return a count of underruns as text. */
export function underruns(count) {
  return count === 1 ? "1 underrun" : `${count} underruns`;
}

function who(name) {
  const label = make("span", "who");
  label.textContent = name;
  return label;
}

function dots() {
  const waiting = make("span", "dots");
  waiting.setAttribute("aria-hidden", "true");
  waiting.append(make("i"), make("i"), make("i"));
  return waiting;
}

function bold(text) {
  const made = make("b");
  made.textContent = text;
  return made;
}

function make(name, className = "") {
  const made = document.createElement(name);
  made.className = className;
  return made;
}
