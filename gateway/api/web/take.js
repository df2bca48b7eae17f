// A recording to clone a voice from: ten seconds from the microphone, or a file.

import { Microphone } from "./microphone.js";
import { SAMPLE_RATE_HZ, wavFile } from "./pcm.js";

const TAKE_S = 10;

/** `onStart()` is called when a recording begins, `onError(message)` when it cannot begin. */
export class Take {
  constructor(root) {
    this.button = root.querySelector("#record");
    this.file = root.querySelector("#upload");
    this.progress = root.querySelector("#take-progress");
    this.player = root.querySelector("#take");
    this.audio = root.querySelector("#take-audio");
    this.label = root.querySelector("#take-name");
    this.onStart = () => {};
    this.onError = () => {};
    this.microphone = null;
    this.recording = null;
    this.fileName = "";
    this.button.addEventListener("click", () => (this.microphone ? this.finish() : this.start()));
    this.file.addEventListener("change", () => {
      const [file] = this.file.files;
      if (file) this.keep(file, file.name);
    });
  }

  async start() {
    this.button.disabled = true;
    try {
      this.microphone = await Microphone.open();
    } catch (error) {
      this.onError(error.message);
      return;
    } finally {
      this.button.disabled = false;
    }
    this.forget();
    this.onStart();
    this.chunks = [];
    this.button.textContent = "Stop";
    this.progress.hidden = false;
    let samples = 0;
    this.microphone.onPiece = (piece) => {
      this.chunks.push(piece);
      samples += piece.length;
      this.progress.value = samples / SAMPLE_RATE_HZ;
      if (samples >= TAKE_S * SAMPLE_RATE_HZ) this.finish();
    };
  }

  finish() {
    const { chunks } = this;
    this.cancel();
    this.keep(wavFile(chunks), "recording.wav");
  }

  /** Stop recording and discard the recording. */
  cancel() {
    this.microphone?.close();
    this.microphone = null;
    this.button.textContent = this.recording ? "Record again" : `Record ${TAKE_S} seconds`;
    this.progress.hidden = true;
    this.progress.value = 0;
  }

  keep(recording, fileName) {
    this.forget();
    this.recording = recording;
    this.fileName = fileName;
    this.audio.src = URL.createObjectURL(recording);
    this.label.textContent = fileName;
    this.player.hidden = false;
    this.button.textContent = "Record again";
  }

  forget() {
    if (this.audio.src) URL.revokeObjectURL(this.audio.src);
    this.audio.removeAttribute("src");
    this.player.hidden = true;
    this.recording = null;
    this.file.value = "";
  }
}
