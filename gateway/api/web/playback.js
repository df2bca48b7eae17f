// The queue of sound to be played: gapless, counted, emptied at once.

const FADE_SAMPLES = 120; // 5 ms at 24 kHz: an interruption without a click
const FRAME_SAMPLES = 1920;
const MOST_LEAD_SAMPLES = 4 * FRAME_SAMPLES;

/**
 * One reply's sound at a time. No clock of its own: it is asked for samples.
 *
 * Sound starts with the first frame. Each underrun makes it wait for one frame more, from then on.
 */
export class Playback {
  constructor() {
    this.leadSamples = FRAME_SAMPLES;
    this.reset();
  }

  reset() {
    this.underruns = 0;
    this.chunks = [];
    this.read = 0; // samples of the first chunk already played
    this.buffered = 0;
    this.played = 0;
    this.silence = 0; // samples of silence inside the reply
    this.dry = 0; // of them, those since the last sound
    this.started = false;
    this.flowing = false; // else sound is being gathered
    this.ended = false;
    this.fading = 0;
  }

  /** @param {Float32Array} chunk */
  push(chunk) {
    this.chunks.push(chunk);
    this.buffered += chunk.length;
  }

  /** No more sound will come for this reply: the silence since the last of it was no underrun. */
  end() {
    this.ended = true;
    if (this.dry) this.underruns -= 1;
    this.silence -= this.dry;
    this.dry = 0;
  }

  /** Stop: what is queued is never played, but for a fade of 5 ms. */
  stop() {
    this.end();
    this.fading = this.started ? Math.min(FADE_SAMPLES, this.buffered) : 0;
    this.buffered = this.fading;
  }

  /** Whether the whole reply was played. */
  get finished() {
    return this.ended && this.buffered === 0;
  }

  /**
   * Fill `output` with the next samples, silence where there are none.
   * An underrun is a stretch of silence inside a reply, counted once when it begins.
   * @param {Float32Array} output
   */
  fill(output) {
    this.flowing ||= this.buffered > 0 && (this.ended || this.buffered >= this.leadSamples);
    this.started ||= this.flowing;
    if (!this.started) return;
    let written = 0;
    while (this.flowing && written < output.length && this.buffered > 0) {
      const chunk = this.chunks[0];
      const count = Math.min(output.length - written, chunk.length - this.read, this.buffered);
      for (let i = 0; i < count; i += 1) {
        const gain = this.fading ? (this.buffered - i) / FADE_SAMPLES : 1;
        output[written + i] = chunk[this.read + i] * gain;
      }
      this.read += count;
      written += count;
      this.played += count;
      this.buffered -= count;
      if (this.read === chunk.length) {
        this.chunks.shift();
        this.read = 0;
      }
      this.dry = 0;
    }
    if (written < output.length && !this.ended) {
      if (!this.dry) this.underrun();
      this.dry += output.length - written;
      this.silence += output.length - written;
    }
  }

  underrun() {
    this.underruns += 1;
    this.flowing = false;
    this.leadSamples = Math.min(this.leadSamples + FRAME_SAMPLES, MOST_LEAD_SAMPLES);
  }
}
