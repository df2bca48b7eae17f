// The sheet of settings. The browser keeps the settings.

import { listDevices } from "./devices.js";

const KEY = "chroma-voice.settings";

/**
 * `onChange(settings)` is called with all settings at every change. `checkPrompt(text)` returns a promise of why the
 * model cannot use a system prompt: such a prompt is not taken over, and the one before stays in use.
 */
export class SettingsSheet {
  constructor(dialog) {
    this.dialog = dialog;
    this.form = dialog.querySelector("form");
    this.prompt = dialog.querySelector("#instructions");
    this.promptError = dialog.querySelector("#instructions-error");
    this.onChange = () => {};
    this.checkPrompt = async () => "";
    this.maxPromptChars = Infinity;
    const { apiKey, ...kept } = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    if (apiKey !== undefined) localStorage.setItem(KEY, JSON.stringify(kept)); // earlier versions kept the key here
    for (const field of this.fields) {
      if (!(field.name in kept)) continue;
      if (field.type === "checkbox") field.checked = kept[field.name];
      else if (field.type === "select-one") field.append(new Option("", kept[field.name], true, true));
      else field.value = kept[field.name];
    }
    this.instructions = this.prompt.value.trim();
    this.form.addEventListener("input", () => this.showValues());
    this.form.addEventListener("change", (event) => (event.target === this.prompt ? this.changePrompt() : this.save()));
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.showValues();
  }

  get fields() {
    return [...this.form.elements].filter((field) => field.name);
  }

  get values() {
    const read = (field) => {
      if (field.type === "checkbox") return field.checked;
      return field.type === "range" ? field.valueAsNumber : field.value.trim();
    };
    const values = Object.fromEntries(this.fields.map((field) => [field.name, read(field)]));
    return { ...values, instructions: this.instructions };
  }

  save() {
    localStorage.setItem(KEY, JSON.stringify(this.values));
    this.onChange(this.values);
  }

  async changePrompt() {
    const wanted = this.prompt.value.trim();
    const tooLong = wanted.length > this.maxPromptChars;
    const limit = `The server takes at most ${this.maxPromptChars} characters, this has ${wanted.length}.`;
    this.showPromptError("");
    const reason = tooLong ? limit : await this.checkPrompt(wanted);
    if (wanted !== this.prompt.value.trim()) return; // changed again meanwhile
    this.showPromptError(reason && `This prompt is not in use. ${reason}`);
    if (reason) return;
    this.instructions = wanted;
    this.save();
  }

  showPromptError(message) {
    this.promptError.textContent = message;
    this.promptError.hidden = !message;
    this.prompt.toggleAttribute("aria-invalid", Boolean(message));
  }

  /** @param {boolean} does whether the server writes down what the user says */
  showTranscribes(does) {
    const field = this.form.elements.transcribe;
    field.disabled = !does;
    this.dialog.querySelector("#transcribe-hint").textContent = does
      ? "The text appears after the reply."
      : "This server does not write speech down.";
  }

  show() {
    this.dialog.showModal();
    listDevices(this.form.elements.microphone, this.form.elements.speaker);
  }

  showValues() {
    for (const output of this.form.querySelectorAll("output")) {
      const range = this.form.querySelector(`#${output.htmlFor}`);
      output.textContent = range.dataset.unit ? `${range.value} ${range.dataset.unit}` : Number(range.value).toFixed(2);
    }
  }
}
