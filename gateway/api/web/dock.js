// The dock: the talk button, its mode, the state of the conversation, and the field for a written turn.

import { Waves } from "./waves.js";

const MODE_KEY = "chroma-voice.mode";
const PHASES = {
  opening: "Opening the microphone…",
  waiting: "Thinking",
  speaking: "Speaking. Talk to interrupt.",
  ready: "Listening for you",
};
const CONNECTIONS = { refused: "No access", lost: "Connection lost. Trying again…" };
const QUIET_LEVEL = 0.004;
const WARN_S = 15; // before the end of a turn that is too long

/** Calls the methods of `talk` for presses and keys, and shows its state. `say(message)` shows a message. */
export class Dock {
  constructor(root, talk, speaker, say) {
    const find = (selector) => root.querySelector(selector);
    this.talk = talk;
    this.speaker = speaker;
    this.say = say;
    this.button = find("#talk");
    this.label = find("#talk-label");
    this.phase = find("#phase");
    this.stop = find("#stop");
    this.mute = find("#mute");
    this.waves = new Waves(find("#waves"));
    this.ring = 0;
    this.held = false;
    this.volume = 1;
    this.isMuted = false;

    this.button.addEventListener("pointerdown", (event) => {
      if (talk.mode !== "push" || event.button !== 0) return;
      this.button.setPointerCapture(event.pointerId);
      this.attempt(this.hold());
    });
    for (const end of ["pointerup", "pointercancel"]) this.button.addEventListener(end, () => this.letGo());
    this.button.addEventListener("contextmenu", (event) => event.preventDefault());
    this.button.addEventListener("click", () => talk.mode === "free" && this.attempt(talk.toggle()));
    for (const mode of root.querySelectorAll("[name=mode]")) {
      mode.addEventListener("change", () => {
        localStorage.setItem(MODE_KEY, mode.value);
        this.attempt(talk.setMode(mode.value));
      });
      if (mode.value === localStorage.getItem(MODE_KEY)) {
        mode.checked = true;
        talk.setMode(mode.value);
      }
    }
    document.addEventListener("keydown", (event) => {
      if (document.querySelector("dialog[open]")) return; // the keys are the sheet's
      if (event.key === "Escape") this.silence();
      if (!isTalkKey(event) || talk.mode !== "push") return;
      event.preventDefault();
      if (!event.repeat && !this.button.disabled) this.attempt(this.hold());
    });
    document.addEventListener("keyup", (event) => {
      if (isTalkKey(event) && talk.mode === "push") this.letGo();
    });
    window.addEventListener("blur", () => this.letGo());
    this.stop.addEventListener("click", () => this.silence());
    this.mute.addEventListener("click", () => {
      this.isMuted = !this.isMuted;
      this.setVolume(this.volume);
    });
    find("#write").addEventListener("submit", (event) => {
      event.preventDefault();
      const field = find("#text");
      if (this.ask(field.value.trim())) field.value = "";
    });
  }

  attempt(action) {
    Promise.resolve(action).catch((error) => this.say(error.message));
  }

  /** Ask a written question. Returns false, and says why, while that is not possible. */
  ask(text) {
    if (!text) return false;
    if (!this.talk.settings.voice) {
      this.say("Add a voice first: replies are spoken in it.");
      return false;
    }
    if (this.talk.connection !== "open") {
      this.say("There is no connection at the moment. Your message stays here: send it again in a moment.");
      return false;
    }
    this.attempt(this.talk.write(text));
    return true;
  }

  silence() {
    this.talk.stopReplay();
    this.talk.interrupt();
  }

  /** @param {number} volume 0 to 1 */
  setVolume(volume) {
    this.volume = volume;
    this.speaker.setVolume(this.isMuted ? 0 : volume);
    this.mute.setAttribute("aria-pressed", String(this.isMuted));
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
    setText(this.phase, this.phaseText(phase));
    this.phase.classList.toggle("urgent", phase === "listening" && talk.mode === "push" && talk.leftS <= WARN_S);
    this.stop.hidden = phase !== "speaking" && phase !== "waiting" && !talk.replayed;
  }

  phaseText(phase) {
    const { talk } = this;
    if (talk.connection === "refused") return CONNECTIONS.refused;
    if (!talk.settings.voice) return talk.knowsVoices ? "No voice yet" : "Connecting…";
    if (phase === "offline") return CONNECTIONS[talk.connection] ?? "Connecting…";
    if (phase === "listening") {
      const leftS = Math.ceil(talk.leftS);
      return talk.mode === "push" && leftS <= WARN_S ? `Listening. ${leftS} s are left` : "Listening";
    }
    if (phase === "idle" && talk.replayed) return "Playing again";
    return PHASES[phase] ?? IDLE[talk.mode];
  }

  /** Called at every frame of the screen: the ring and the waves show the levels of the user and of the reply. */
  animate(replyLevel, now) {
    const { talk } = this;
    const loudness = (level) => (level < QUIET_LEVEL ? 0 : Math.min(1, Math.sqrt(level) * 2.2));
    const [you, reply] = [loudness(talk.level), loudness(replyLevel)];
    this.ring += (0.75 * (talk.phase === "speaking" ? reply : you) - this.ring) * 0.35;
    this.button.style.setProperty("--level", this.ring.toFixed(3));
    this.waves.add(you, reply, now);
  }
}

const IDLE = {
  push: matchMedia("(hover: hover)").matches ? "Hold the button or the space bar" : "Hold the button and speak",
  free: "Press to open the microphone",
};

function isTalkKey(event) {
  if (event.code === "Enter") return event.target.id === "talk";
  if (event.code !== "Space") return false;
  return event.target === document.body || event.target.id === "talk" || event.target.id === "conversation";
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
