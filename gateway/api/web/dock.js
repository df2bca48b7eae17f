// The dock: the talk button, its mode, the state of the conversation, and the field for a written turn.

import { underruns } from "./transcript.js";

const PHASES = {
  offline: "Connecting…",
  listening: "Listening",
  waiting: "Thinking",
  speaking: "Speaking. Talk to interrupt.",
  ready: "Listening for you",
};
const QUIET_LEVEL = 0.004;

/** Calls the methods of `talk` for presses and keys, and shows its state. */
export class Dock {
  constructor(root, talk, onError) {
    const find = (selector) => root.querySelector(selector);
    this.talk = talk;
    this.button = find("#talk");
    this.label = find("#talk-label");
    this.phase = find("#phase");
    this.buffer = find("#buffer");
    this.underruns = find("#underruns");
    this.stop = find("#stop");
    this.ring = 0;
    this.held = false;
    const attempt = (action) => Promise.resolve(action).catch((error) => onError(error.message));

    this.button.addEventListener("pointerdown", (event) => {
      if (talk.mode !== "push" || event.button !== 0) return;
      this.button.setPointerCapture(event.pointerId);
      attempt(this.hold());
    });
    for (const end of ["pointerup", "pointercancel"]) this.button.addEventListener(end, () => this.letGo());
    this.button.addEventListener("contextmenu", (event) => event.preventDefault());
    this.button.addEventListener("click", () => talk.mode === "free" && attempt(talk.toggle()));
    for (const mode of root.querySelectorAll("[name=mode]")) {
      mode.addEventListener("change", () => attempt(talk.setMode(mode.value)));
    }
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") talk.interrupt();
      if (!isTalkKey(event) || talk.mode !== "push") return;
      event.preventDefault();
      if (!event.repeat && !this.button.disabled) attempt(this.hold());
    });
    document.addEventListener("keyup", (event) => {
      if (isTalkKey(event) && talk.mode === "push") this.letGo();
    });
    window.addEventListener("blur", () => this.letGo());
    this.stop.addEventListener("click", () => talk.interrupt());
    find("#write").addEventListener("submit", (event) => {
      event.preventDefault();
      const field = find("#text");
      const text = field.value.trim();
      if (!text || this.button.disabled) return;
      field.value = "";
      attempt(talk.write(text));
    });
  }

  async hold() {
    this.held = true;
    await this.talk.press();
    // The browser may have asked for permission. The user may have let go of the button meanwhile.
    if (!this.held) this.talk.release();
  }

  letGo() {
    if (!this.held) return;
    this.held = false;
    this.talk.release();
  }

  show() {
    const { talk } = this;
    const { phase } = talk;
    this.button.disabled = phase === "offline" || !talk.settings.voice;
    this.button.setAttribute("aria-pressed", String(talk.listening));
    this.button.dataset.phase = phase;
    const free = talk.listening ? "Close the microphone" : "Open the microphone";
    setText(this.label, talk.mode === "push" ? "Hold to talk" : free);
    setText(this.phase, talk.connection === "refused" ? "No access" : (PHASES[phase] ?? IDLE[talk.mode]));
    this.stop.hidden = phase !== "speaking" && phase !== "waiting";
    const playing = talk.current && !talk.current.playedOut && talk.current.played.first !== null;
    setText(this.buffer, playing ? `${Math.max(0, talk.stats.buffered_s).toFixed(1)} s buffered` : "");
    setText(this.underruns, talk.turns.length ? underruns(talk.stats.underruns) : "");
    this.underruns.classList.toggle("bad", talk.stats.underruns > 0);
  }

  /** Called at every frame of the screen: the ring shows the level of the user or of the reply. */
  animate(speakerLevel) {
    const { phase } = this.talk;
    const level = phase === "speaking" ? speakerLevel : this.talk.level;
    const target = level < QUIET_LEVEL ? 0 : Math.min(1, Math.sqrt(level) * 1.6);
    this.ring += (target - this.ring) * 0.35;
    this.button.style.setProperty("--level", this.ring.toFixed(3));
  }
}

const IDLE = {
  push: matchMedia("(hover: hover)").matches ? "Hold the button or the space bar" : "Hold the button and speak",
  free: "Press to open the microphone",
};

function isTalkKey(event) {
  if (event.code !== "Space" || document.querySelector("dialog[open]")) return false;
  return event.target === document.body || event.target.id === "talk" || event.target.id === "conversation";
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
