// Runs on the audio thread: plays one reply after the other and reports how much was played.

import { SAMPLE_RATE_HZ } from "./pcm.js";
import { Playback } from "./playback.js";

const REPORT_SAMPLES = 1200; // 50 ms

class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.playback = new Playback();
    this.reply = null; // id of the reply being played
    this.unreported = 0;
    this.port.onmessage = ({ data }) => this.receive(data);
  }

  receive({ reply, samples, end, stop }) {
    if (samples && reply !== this.reply) {
      this.reply = reply;
      this.playback.reset();
    }
    if (reply !== this.reply) return;
    if (samples) this.playback.push(samples);
    if (end) this.playback.end();
    if (stop) this.playback.stop();
  }

  process(_, [[output]]) {
    if (this.reply === null) return true;
    const { started, underruns } = this.playback;
    this.playback.fill(output);
    this.unreported += output.length;
    const changed = this.playback.started !== started || this.playback.underruns !== underruns;
    if (changed || this.playback.finished || this.unreported >= REPORT_SAMPLES) this.report();
    if (this.playback.finished) this.reply = null;
    return true;
  }

  report() {
    const { started, finished, played, buffered, underruns, silence } = this.playback;
    const seconds = (samples) => samples / SAMPLE_RATE_HZ;
    this.unreported = 0;
    this.port.postMessage({
      reply: this.reply,
      started,
      finished,
      played_s: seconds(played),
      buffered_s: seconds(buffered),
      silence_s: seconds(silence),
      underruns,
    });
  }
}

registerProcessor("player", Player);
