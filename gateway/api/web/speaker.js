// The loudspeaker: plays the replies without gaps.

import { SAMPLE_RATE_HZ, toFloat } from "./pcm.js";

/** Plays one reply at a time. `onReport` gets the reports of playback-worklet.js, about every 50 ms of a reply. */
export class Speaker {
  constructor() {
    this.onReport = () => {};
    this.node = null;
    this.waiting = [];
    this.volume = 1;
    this.device = "";
  }

  /** @param {number} volume 0 to 1 */
  setVolume(volume) {
    this.volume = volume;
    if (this.gain) this.gain.gain.value = volume;
  }

  /** Play through another device. Empty: the browser's default; also where there is no such device any more. */
  async setDevice(device) {
    this.device = device;
    await this.context?.setSinkId?.(device).catch(() => this.context.setSinkId(""));
  }

  /** Start the audio output. Browsers allow it only after a click or a key press. */
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
    this.gain = this.context.createGain();
    node.connect(this.analyser).connect(this.gain).connect(this.context.destination);
    this.setVolume(this.volume);
    if (this.device) await this.setDevice(this.device);
    for (const message of this.waiting.splice(0)) node.port.postMessage(message);
    this.node = node;
  }

  /** Play a piece of a reply's sound, Int16 at 24 kHz. */
  play(reply, samples) {
    this.send({ reply, samples: toFloat(samples) });
  }

  /** Say that the reply's sound is complete. */
  end(reply) {
    this.send({ reply, end: true });
  }

  /** Stop the sound at once. */
  stop(reply) {
    this.send({ reply, stop: true });
  }

  /** Level of the sound that is played now, 0 to 1. */
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
