// The queue of sound to play. It joins chunks without gaps, counts what was played, and can be emptied at once.

const FADE_SAMPLES = 120; // 5 ms at 24 kHz: an interruption without a click
const FRAME_SAMPLES = 1920;
const MAX_LEAD_SAMPLES = 4 * FRAME_SAMPLES;

/**
 * The sound of one reply at a time. It has no clock: the audio thread asks it for samples.
 *
 * Playback starts when one frame of sound is buffered. Each underrun adds one frame to it, up to four.
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
    this.dry = 0; // samples of silence since the last sound
    this.started = false;
    this.flowing = false; // sound is played; otherwise it is only buffered
    this.ended = false;
    this.fading = 0;
  }

  /** @param {Float32Array} chunk */
  push(chunk) {
    this.chunks.push(chunk);
    this.buffered += chunk.length;
  }

  /** No more sound will come for this reply. So the silence since the last sound was not an underrun. */
  end() {
    this.ended = true;
    if (this.dry) this.underruns -= 1;
    this.silence -= this.dry;
    this.dry = 0;
  }

  /** Stop. Of the queued sound only a fade of 5 ms is played. */
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
   * Fill `output` with the next samples. Where there are none, it stays silent.
   * An underrun is a stretch of silence inside a reply. It is counted when it begins.
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
    this.leadSamples = Math.min(this.leadSamples + FRAME_SAMPLES, MAX_LEAD_SAMPLES);
  }
}
