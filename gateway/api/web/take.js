// A recording to clone a voice from: ten seconds from the microphone, or a file.

import { Microphone } from "./microphone.js";
import { SAMPLE_RATE_HZ, wavFile } from "./pcm.js";
import { readable } from "./recording-file.js";

const TAKE_S = 10;
const COUNTDOWN = ["3", "2", "1"];
const COUNT_MS = 700;

/**
 * `onStart()` is called when a recording begins, `onFile()` when a file takes its place, `onError(message)` when a
 * recording cannot begin. `deviceId()` returns the microphone to use.
 */
export class Take {
  constructor(root, deviceId) {
    this.deviceId = deviceId;
    this.button = root.querySelector("#record");
    this.file = root.querySelector("#upload");
    this.status = root.querySelector("#take-status");
    this.meter = root.querySelector("#take-level");
    this.progress = root.querySelector("#take-progress");
    this.player = root.querySelector("#take");
    this.audio = root.querySelector("#take-audio");
    this.label = root.querySelector("#take-name");
    this.onStart = () => {};
    this.onFile = () => {};
    this.onError = () => {};
    this.microphone = null;
    this.recording = null;
    this.fileName = "";
    this.button.addEventListener("click", () => (this.microphone ? this.finish() : this.start()));
    this.file.addEventListener("change", () => this.upload(this.file.files[0]));
  }

  async start() {
    this.button.disabled = true;
    try {
      this.microphone = await Microphone.open(this.deviceId());
    } catch (error) {
      this.onError(error.message);
      return;
    } finally {
      this.button.disabled = false;
    }
    const { microphone } = this;
    this.forget();
    this.onStart();
    this.button.textContent = "Stop";
    this.progress.hidden = this.status.hidden = this.meter.hidden = false;
    microphone.onPiece = (_, level) => this.showLevel(level);
    for (const count of COUNTDOWN) {
      this.status.textContent = `Read the sentence aloud in ${count}…`;
      await new Promise((resolve) => setTimeout(resolve, COUNT_MS));
      if (this.microphone !== microphone) return; // stopped
    }
    this.status.textContent = "Recording. Read now.";
    this.chunks = [];
    let samples = 0;
    microphone.onPiece = (piece, level) => {
      this.showLevel(level);
      this.chunks.push(piece);
      samples += piece.length;
      this.progress.value = samples / SAMPLE_RATE_HZ;
      if (samples >= TAKE_S * SAMPLE_RATE_HZ) this.finish();
    };
  }

  showLevel(level) {
    this.meter.value = Math.min(1, Math.sqrt(level) * 1.6);
  }

  finish() {
    const { chunks } = this;
    this.cancel();
    if (chunks) this.keep(wavFile(chunks), "recording.wav");
  }

  /** Stop recording and discard the recording. */
  cancel() {
    this.microphone?.close();
    this.microphone = null;
    this.chunks = null;
    this.button.textContent = this.fileName === "recording.wav" ? "Record again" : `Record ${TAKE_S} seconds`;
    this.progress.hidden = this.status.hidden = this.meter.hidden = true;
    this.progress.value = 0;
  }

  async upload(file) {
    if (!file) return;
    this.cancel();
    const { recording, fileName } = await readable(file);
    this.onFile();
    this.keep(recording, fileName);
  }

  keep(recording, fileName) {
    this.forget();
    this.recording = recording;
    this.fileName = fileName;
    this.audio.src = URL.createObjectURL(recording);
    this.label.textContent = fileName;
    this.player.hidden = false;
    if (!this.microphone) this.cancel(); // names the button
  }

  forget() {
    if (this.audio.src) URL.revokeObjectURL(this.audio.src);
    this.audio.removeAttribute("src");
    this.player.hidden = true;
    this.recording = null;
    this.fileName = "";
    this.file.value = "";
  }
}
