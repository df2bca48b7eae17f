// Band-limited resampling of a stream, for any two rates.

const ZERO_CROSSINGS = 16;
const ROLL_OFF = 0.94;

/** Resamples mono float samples piece by piece. The output does not depend on how the input is divided. */
export class Resampler {
  /**
   * @param {number} fromHz rate of the samples pushed
   * @param {number} toHz rate of the samples returned
   */
  constructor(fromHz, toHz) {
    const divisor = greatestCommonDivisor(fromHz, toHz);
    this.step = fromHz / divisor; // each output sample advances the input position by step / phases
    this.phases = toHz / divisor;
    const cutoff = Math.min(1, toHz / fromHz) * ROLL_OFF;
    this.half = Math.ceil(ZERO_CROSSINGS / cutoff);
    this.kernels = new Map();
    this.cutoff = cutoff;
    this.input = new Float32Array(this.half); // silence before the first sample
    this.position = this.half; // whole input position of the next output, counted in `input`
    this.phase = 0;
  }

  /**
   * @param {Float32Array} samples
   * @returns {Float32Array} the output samples that can be computed now; they lag by half a kernel
   */
  push(samples) {
    if (this.step === this.phases) return samples.slice();
    const input = new Float32Array(this.input.length + samples.length);
    input.set(this.input);
    input.set(samples, this.input.length);
    const output = [];
    while (this.position + this.half < input.length) {
      const kernel = this.kernel(this.phase);
      const first = this.position - this.half + 1;
      let sum = 0;
      for (let i = 0; i < kernel.length; i += 1) sum += kernel[i] * input[first + i];
      output.push(sum);
      this.phase += this.step;
      this.position += Math.floor(this.phase / this.phases);
      this.phase %= this.phases;
    }
    const used = this.position - this.half;
    this.input = input.slice(used);
    this.position = this.half;
    return Float32Array.from(output);
  }

  /** The windowed sinc for an output that lies `phase / phases` of a sample after an input sample. */
  kernel(phase) {
    let kernel = this.kernels.get(phase);
    if (!kernel) {
      kernel = new Float32Array(2 * this.half);
      let sum = 0;
      for (let i = 0; i < kernel.length; i += 1) {
        const distance = i + 1 - this.half - phase / this.phases;
        const angle = Math.PI * distance * this.cutoff;
        const sinc = angle === 0 ? 1 : Math.sin(angle) / angle;
        const window = 0.5 + 0.5 * Math.cos(Math.PI * Math.max(-1, Math.min(1, distance / this.half)));
        kernel[i] = sinc * window;
        sum += kernel[i];
      }
      for (let i = 0; i < kernel.length; i += 1) kernel[i] /= sum;
      this.kernels.set(phase, kernel);
    }
    return kernel;
  }
}

function greatestCommonDivisor(a, b) {
  while (b) [a, b] = [b, a % b];
  return a;
}
