// The sheet of voices: choose a voice, hear it, delete one, clone one.

import { Take } from "./take.js";
import { cloneVoice, deleteVoice, listVoices, previewVoice } from "./voices.js";

const KEY = "chroma-voice.voice";
const PREVIEW = "Hello, this is how I sound.";
const READ_ALOUD =
  "On a clear morning we walked along the river, talked about everything and nothing, " +
  "and came home with cold hands and a bag full of warm bread.";

/**
 * `onPick(voice)` gets the chosen voice, or null when there is none. `onError(error)`: the list cannot be read.
 * `onPreview()` is called before a preview is played. `deviceId()` returns the microphone to record with.
 */
export class VoiceSheet {
  constructor(dialog, deviceId) {
    this.dialog = dialog;
    this.list = dialog.querySelector("#voice-list");
    this.form = dialog.querySelector("#clone-form");
    this.error = dialog.querySelector("#clone-error");
    this.statement = dialog.querySelector("#voices-statement");
    this.onPick = () => {};
    this.onError = () => {};
    this.onPreview = () => {};
    this.voices = [];
    this.card = null;
    this.preview = new Audio();
    this.previews = new Map(); // sound files by the voice's id
    dialog.querySelector("#read-aloud").textContent = READ_ALOUD;
    this.take = new Take(dialog, deviceId);
    this.take.onStart = () => (this.form.elements.transcript.value = READ_ALOUD);
    this.take.onFile = () => {
      const { transcript } = this.form.elements;
      if (transcript.value === READ_ALOUD) transcript.value = "";
      this.error.hidden = true;
    };
    this.take.onError = (message) => this.fail(message);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.clone();
    });
    dialog.addEventListener("close", () => {
      this.take.cancel();
      this.preview.pause();
    });
  }

  /** @param {{voices: string, preview: string} | null} card what the checkpoint says of itself */
  describe(card) {
    this.card = card;
    this.statement.textContent = card?.voices ?? "";
    this.statement.hidden = !card?.voices;
  }

  get picked() {
    const id = localStorage.getItem(KEY);
    return this.voices.find((voice) => voice.id === id) ?? this.voices[0] ?? null;
  }

  /** The name of a voice; with its id, if another voice has the same name. */
  nameOf({ id, name }) {
    if (!name) return id;
    return this.voices.filter((voice) => voice.name === name).length > 1 ? `${name} (${id})` : name;
  }

  show() {
    this.dialog.showModal();
    this.dialog.querySelector("#clone").open = this.voices.length === 0;
    this.load();
  }

  /** Fetch the voices and show them. */
  async load() {
    try {
      this.voices = await listVoices();
    } catch (error) {
      this.list.replaceChildren(note(error.message));
      this.onError(error);
      return;
    }
    this.render();
    this.onPick(this.picked);
  }

  pick(voice) {
    localStorage.setItem(KEY, voice.id);
    this.onPick(voice);
  }

  render() {
    const picked = this.picked;
    const rows = this.voices.map((voice) => this.row(voice, voice === picked));
    this.list.replaceChildren(...(rows.length ? rows : [note("No voices yet. Clone one to begin.")]));
  }

  row(voice, picked) {
    const row = document.createElement("li");
    const label = document.createElement("label");
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "voice", checked: picked });
    radio.addEventListener("change", () => this.pick(voice));
    const name = document.createElement("strong");
    name.textContent = this.nameOf(voice);
    const details = document.createElement("small");
    details.textContent = `${Number(voice.duration_s ?? 0).toFixed(1)} s · “${voice.transcript}”`;
    details.title = voice.transcript;
    label.append(radio, name, details);
    const hear = Object.assign(document.createElement("button"), { type: "button", textContent: "Listen" });
    hear.setAttribute("aria-label", `Listen to ${name.textContent}`);
    hear.addEventListener("click", () => this.play(voice, hear));
    const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "Delete" });
    remove.setAttribute("aria-label", `Delete ${name.textContent}`);
    remove.addEventListener("click", () => this.remove(voice, remove));
    remove.addEventListener("blur", () => calm(remove));
    row.append(label, hear, remove);
    return row;
  }

  /** Let a voice say a sentence. */
  async play(voice, button) {
    this.onPreview();
    this.preview.pause();
    button.disabled = true;
    button.textContent = "…";
    try {
      if (!this.previews.has(voice.id)) {
        const sound = await previewVoice(voice.id, this.card?.preview || PREVIEW);
        this.previews.set(voice.id, URL.createObjectURL(sound));
      }
      this.preview.src = this.previews.get(voice.id);
      await this.preview.play();
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error.message);
    } finally {
      button.disabled = false;
      button.textContent = "Listen";
    }
  }

  /** The first press asks for confirmation; the second one deletes. */
  async remove(voice, button) {
    if (!button.classList.contains("sure")) {
      button.classList.add("sure");
      button.textContent = "Delete for good?";
      return;
    }
    button.disabled = true;
    try {
      await deleteVoice(voice.id);
    } catch (error) {
      if (error.status !== 404) this.fail(error.message); // 404: it was deleted elsewhere
    }
    await this.load();
  }

  async clone() {
    const { name, transcript, consent } = this.form.elements;
    const { recording, fileName } = this.take;
    if (!recording) return this.fail("Record ten seconds or upload a file first.");
    const submit = this.form.querySelector("[type=submit]");
    submit.disabled = true;
    submit.textContent = "Cloning…";
    this.error.hidden = true;
    try {
      const voice = await cloneVoice({
        name: name.value.trim(),
        transcript: transcript.value.trim(),
        consent: `${consent.labels[0].textContent.trim()} (ticked on the page, ${new Date().toISOString()})`,
        recording,
        fileName,
      });
      localStorage.setItem(KEY, voice.id);
      this.form.reset();
      this.take.forget();
      this.form.parentElement.open = false;
      await this.load();
    } catch (error) {
      this.fail(error.message);
    } finally {
      submit.disabled = false;
      submit.textContent = "Clone this voice";
    }
  }

  fail(message) {
    this.error.textContent = message;
    this.error.hidden = false;
    this.error.scrollIntoView({ block: "nearest" });
  }
}

function calm(button) {
  button.classList.remove("sure");
  button.textContent = "Delete";
}

function note(text) {
  const row = document.createElement("li");
  row.className = "none";
  row.textContent = text;
  return row;
}
