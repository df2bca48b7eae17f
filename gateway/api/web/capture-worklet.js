// Runs on the audio thread: turns the microphone's sound, at the device's rate, into pieces of 16-bit PCM at 24 kHz.

import { SAMPLE_RATE_HZ, toInt16 } from "./pcm.js";
import { Resampler } from "./resampler.js";

const PIECE_SAMPLES = 960; // 40 ms

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, SAMPLE_RATE_HZ);
    this.piece = new Float32Array(PIECE_SAMPLES);
    this.filled = 0;
  }

  process([input]) {
    const channel = input[0];
    if (!channel) return true;
    for (const sample of this.resampler.push(channel)) {
      this.piece[this.filled] = sample;
      this.filled += 1;
      if (this.filled === PIECE_SAMPLES) this.send();
    }
    return true;
  }

  send() {
    let energy = 0;
    for (const sample of this.piece) energy += sample * sample;
    const samples = toInt16(this.piece);
    this.filled = 0;
    this.port.postMessage({ samples, level: Math.sqrt(energy / PIECE_SAMPLES) }, [samples.buffer]);
  }
}

registerProcessor("capture", Capture);
