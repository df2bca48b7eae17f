// 16-bit little-endian PCM, the form of all sound on the connection, and WAV files of it.

export const SAMPLE_RATE_HZ = 24000;

/** Convert float samples (full scale 1) to 16-bit integers. */
export function toInt16(samples) {
  const integers = new Int16Array(samples.length);
  for (let i = 0; i < samples.length; i += 1) {
    integers[i] = Math.max(-32768, Math.min(32767, Math.round(samples[i] * 32768)));
  }
  return integers;
}

/** Convert 16-bit integers to float samples (full scale 1). */
export function toFloat(integers) {
  return Float32Array.from(integers, (sample) => sample / 32768);
}

/** Encode bytes as base64. */
export function toBase64(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return btoa(text);
}

/** Decode base64 of 16-bit PCM to integers. Browsers run on little-endian machines. */
export function int16FromBase64(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Int16Array(bytes.buffer, 0, bytes.length >> 1);
}

/** Return a mono WAV file of 16-bit samples at 24 kHz. */
export function wavFile(chunks) {
  const samples = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const header = new DataView(new ArrayBuffer(44));
  const ascii = (at, text) => [...text].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
  ascii(0, "RIFF");
  header.setUint32(4, 36 + 2 * samples, true);
  ascii(8, "WAVEfmt ");
  header.setUint32(16, 16, true); // size of the format
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // mono
  header.setUint32(24, SAMPLE_RATE_HZ, true);
  header.setUint32(28, 2 * SAMPLE_RATE_HZ, true); // bytes a second
  header.setUint16(32, 2, true); // bytes a sample
  header.setUint16(34, 16, true); // bits a sample
  ascii(36, "data");
  header.setUint32(40, 2 * samples, true);
  return new Blob([header, ...chunks], { type: "audio/wav" });
}
