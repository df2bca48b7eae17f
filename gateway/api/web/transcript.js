// The transcript of the conversation: both texts of each turn, and beside them the turn's timing.

import { ReplyTools } from "./reply-tools.js";
import { waterfall } from "./waterfall.js";

const SMALL = matchMedia("(max-width: 820px), (max-height: 520px)"); // as in style.css
const LOW = matchMedia("(max-height: 520px)"); // as in style.css: the whole page scrolls
const STUCK_PX = 80; // when the view is this near to the end, it follows the conversation
const MOVED_PX = 4;

/**
 * Shows the turns in `list`. `voiceName()` returns the name of the voice, `isReplayed(turn)` whether the reply is played
 * again now; `onReplay(turn)` is called when it is to be.
 */
export class Transcript {
  constructor(list, { voiceName, isReplayed = () => false, onReplay = () => {} }) {
    this.list = list;
    this.voiceName = voiceName;
    this.isReplayed = isReplayed;
    this.onReplay = onReplay;
    this.views = new Map();
    this.placed = null; // in a low window: where the view was put last, and the layout then
    this.left = false; // in a low window: whether the user has scrolled away from the last turn
  }

  /** Show the present state of a turn. */
  show(turn) {
    const frame = LOW.matches ? document.scrollingElement : this.list.parentElement;
    const follows = frame && this.follows(turn, frame);
    let view = this.views.get(turn);
    if (!view) {
      view = new TurnView(this.voiceName(), new ReplyTools(turn, this.onReplay));
      this.views.set(turn, view);
      this.list.append(view.root);
    }
    view.show(turn, this.isReplayed(turn));
    if (!follows) return;
    if (LOW.matches) view.root.scrollIntoView({ block: "start" });
    else frame.scrollTop = frame.scrollHeight;
    this.placed = placeOf(view.root, frame);
  }

  /**
   * Whether the view stays with this turn. In a low window the turn's beginning is shown, until the user scrolls. A
   * layout that changes can move the view too: then the view goes back to the turn.
   */
  follows(turn, frame) {
    if (!LOW.matches) return frame.scrollHeight - frame.scrollTop - frame.clientHeight < STUCK_PX;
    const view = this.views.get(turn);
    if (!view) this.left = false;
    if (!view || !this.placed) return true;
    if ([...this.views.keys()].at(-1) !== turn) return false;
    const { top, height, turnTop } = placeOf(view.root, frame);
    const isSameLayout = height === this.placed.height && turnTop === this.placed.turnTop;
    if (isSameLayout && Math.abs(top - this.placed.top) >= MOVED_PX) this.left = true;
    return !this.left;
  }

  clear() {
    this.views.clear();
    this.list.replaceChildren();
  }
}

function placeOf(root, frame) {
  return { top: frame.scrollTop, height: frame.scrollHeight, turnTop: root.offsetTop };
}

class TurnView {
  constructor(voiceName, tools) {
    this.root = make("article", "turn");
    const words = make("div", "words");
    this.you = make("p", "you");
    this.reply = make("p", "reply");
    this.fate = make("p", "fate");
    this.caution = make("p", "caution");
    this.tools = tools;
    words.append(this.you, this.reply, this.fate, this.caution, tools.root);
    this.timing = make("details", "timing");
    this.timing.open = !SMALL.matches;
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

  show(turn, isReplayed) {
    this.root.setAttribute("aria-busy", String(!turn.over)); // screen readers read a turn when it has ended
    const asked = turn.userText || (turn.spoken ? "Spoken" : "");
    this.you.hidden = !asked;
    this.you.classList.toggle("unwritten", !turn.userText);
    if (this.you.dataset.text !== asked) {
      this.you.dataset.text = asked;
      this.you.replaceChildren(who("You"), asked);
    }
    this.showReply(turn);
    showLine(this.fate, fateOf(turn), `fate ${turn.outcome}`);
    showLine(this.caution, cautionOf(turn), "caution");
    this.tools.show(isReplayed);
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
      const ahead = atS !== null && atS > turn.playedS && (turn.outcome !== "failed" || !turn.playedOut);
      let name = "";
      if (ahead && turn.outcome === "interrupted") name = "unheard";
      else if (ahead && !turn.playedOut) name = "ahead";
      if (this.spans[i].className !== name) this.spans[i].className = name;
    });
    const firstUnheard = this.spans.find((span) => span.className === "unheard");
    if (firstUnheard && !this.unheardNote) {
      this.unheardNote = make("span", "visually-hidden");
      this.unheardNote.textContent = " Not heard: ";
      firstUnheard.before(this.unheardNote);
    }
  }

  showTiming(turn) {
    const rows = turn.isRestored ? [] : turn.rows();
    this.timing.hidden = rows.length === 0;
    if (rows.length === 0) return;
    const drawn = JSON.stringify([rows, turn.underruns, turn.over, turn.usage]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const first = turn.firstSoundMs;
    const from = turn.beganAt < turn.committedAt ? "from your last word to the first sound" : "to the first sound";
    if (first !== null) this.summary.replaceChildren(bold(`${Math.round(first)} ms`), ` ${from}`);
    else if (turn.over && turn.soundS === 0) this.summary.replaceChildren("No sound");
    else this.summary.replaceChildren(bold("…"), " until the first sound");
    this.chart.replaceChildren(waterfall(rows));
    this.footnote.replaceChildren(...footnote(turn));
  }
}

function fateOf(turn) {
  if (turn.outcome === "failed") return turn.failure;
  if (turn.isRestored) return turn.outcome === "interrupted" ? "Interrupted" : "";
  if (turn.outcome === "interrupted") return `Interrupted after ${turn.playedS.toFixed(1)} s`;
  if (turn.outcome === "completed" && turn.soundS === 0) return "An empty reply: the model ended its speech at once.";
  return "";
}

function cautionOf({ outOfDomain }) {
  const sentences = outOfDomain.map((sentence) => `“${sentence}”`).join(" ");
  return sentences && `This checkpoint cannot say this, so the speech is wrong: ${sentences}`;
}

function footnote(turn) {
  const parts = [`${turn.soundS.toFixed(1)} s of speech`];
  if (turn.usage) parts.push(`${turn.usage.input_tokens} tokens in, ${turn.usage.output_tokens} out`);
  if (turn.underruns) parts.push(turn.underruns === 1 ? "1 gap in the sound" : `${turn.underruns} gaps in the sound`);
  return parts.flatMap((part, i) => {
    const span = make("span");
    span.textContent = part;
    return i ? [" · ", span] : [span];
  });
}

function showLine(line, text, className) {
  line.hidden = !text;
  line.className = className;
  if (line.textContent !== text) line.textContent = text;
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
