// The buttons under a reply: play it again, keep it as a file, copy its text.

import { wavFile } from "./pcm.js";

const ICONS = {
  play: "M6.5 4.5v11l9-5.5z",
  stop: "M6 6h8v8H6z",
  download: "M10 3.5v9m-4-3.5 4 4 4-4M4 16.5h12",
  copy: "M7.5 7.5h8v9h-8zM12.5 4.5h-8v9",
};
const SVG = "http://www.w3.org/2000/svg";
const COPIED_MS = 2000;

/** `onReplay(turn)` is called when a reply is to be played again, or stopped. */
export class ReplyTools {
  constructor(turn, onReplay) {
    this.turn = turn;
    this.root = document.createElement("div");
    this.root.className = "tools";
    this.replay = tool("play", "Play again", () => onReplay(turn));
    this.download = tool("download", "Download", () => this.save());
    this.copy = tool("copy", "Copy text", () => this.copyText());
    this.root.append(this.replay, this.download, this.copy);
  }

  /** @param {boolean} isPlaying whether this reply is played again now */
  show(isPlaying) {
    const { turn } = this;
    this.root.hidden = !turn.over || !turn.replyText;
    this.replay.hidden = this.download.hidden = turn.chunks.length === 0;
    name(this.replay, isPlaying ? "stop" : "play", isPlaying ? "Stop" : "Play again");
  }

  save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(wavFile(this.turn.chunks));
    link.download = `reply-${this.turn.turnId.slice(-8)}.wav`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  async copyText() {
    await copyText(this.turn.replyText.trim());
    name(this.copy, "copy", "Copied");
    setTimeout(() => name(this.copy, "copy", "Copy text"), COPIED_MS);
  }
}

/** Copy a text to the clipboard, also where the page has no right to it: without HTTPS. */
export async function copyText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const field = Object.assign(document.createElement("textarea"), { value: text, className: "visually-hidden" });
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

/** Return a conversation as text, with the name of the one who spoke before each line. */
export function conversationText(turns, voiceName) {
  const lines = turns.flatMap((turn) => {
    const asked = turn.userText || (turn.spoken ? "(spoken)" : "");
    return [asked && `You: ${asked}`, turn.replyText && `${voiceName}: ${turn.replyText.trim()}`];
  });
  return lines.filter(Boolean).join("\n");
}

function tool(icon, label, action) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "tool" });
  button.addEventListener("click", action);
  name(button, icon, label);
  return button;
}

function name(button, icon, label) {
  if (button.dataset.label === label) return;
  button.dataset.label = label;
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", "0 0 20 20");
  picture.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[icon]);
  picture.append(path);
  button.replaceChildren(picture, label);
}
