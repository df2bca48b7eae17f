// The loudspeaker: replies in, gapless sound out.

import { SAMPLE_RATE_HZ, toFloat } from "./pcm.js";

/** Plays one reply at a time. `onReport` gets what playback-worklet.js reports, about every 50 ms of a reply. */
export class Speaker {
  constructor() {
    this.onReport = () => {};
    this.node = null;
    this.waiting = [];
  }

  /** Start the sound; browsers allow it only from a click or a key. */
  async open() {
    this.opening ??= this.start();
    await this.opening;
    await this.context.resume();
  }

  async start() {
    this.context = new AudioContext({ sampleRate: SAMPLE_RATE_HZ, latencyHint: "interactive" });
    await this.context.audioWorklet.addModule("playback-worklet.js");
    const node = new AudioWorkletNode(this.context, "player", { numberOfInputs: 0, outputChannelCount: [1] });
    node.port.onmessage = ({ data }) => this.onReport(data);
    this.analyser = this.context.createAnalyser();
    this.analyser.fftSize = 512;
    node.connect(this.analyser).connect(this.context.destination);
    for (const message of this.waiting.splice(0)) node.port.postMessage(message);
    this.node = node;
  }

  /** A piece of a reply's sound, Int16 at 24 kHz. */
  play(reply, samples) {
    this.send({ reply, samples: toFloat(samples) });
  }

  /** The reply's sound is complete. */
  end(reply) {
    this.send({ reply, end: true });
  }

  /** Be silent now. */
  stop(reply) {
    this.send({ reply, stop: true });
  }

  /** Loudness of what is heard now, 0 to 1. */
  get level() {
    if (!this.node) return 0;
    const samples = new Float32Array(this.analyser.fftSize);
    this.analyser.getFloatTimeDomainData(samples);
    return Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
  }

  send(message) {
    if (this.node) this.node.port.postMessage(message);
    else this.waiting.push(message);
  }
}
