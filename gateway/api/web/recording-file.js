// Recordings as files: one that the server may not read is turned into WAV here, as far as this browser can read it.

import { SAMPLE_RATE_HZ, toInt16, wavFile } from "./pcm.js";

const READ_AS_IS = ["RIFF", "fLaC", "OggS", "ID3"];
const LARGE_BYTES = 8 * 1024 * 1024; // of a film, only the sound is needed

/**
 * Return the file as it is, or as a WAV file: {recording, fileName}. What the browser cannot read is left to the server.
 * @param {File} file
 */
export async function readable(file) {
  const asItIs = { recording: file, fileName: file.name };
  const head = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  const letters = String.fromCharCode(...head);
  const isMp3 = head[0] === 0xff && (head[1] & 0xe6) === 0xe2;
  if (file.size <= LARGE_BYTES && (isMp3 || READ_AS_IS.some((magic) => letters.startsWith(magic)))) return asItIs;
  try {
    const context = new OfflineAudioContext(1, 1, SAMPLE_RATE_HZ);
    const sound = await context.decodeAudioData(await file.arrayBuffer());
    return { recording: wavFile([toInt16(mono(sound))]), fileName: `${file.name.replace(/\.\w+$/, "")}.wav` };
  } catch {
    return asItIs;
  }
}

/** The mean of all channels. */
function mono(sound) {
  const mixed = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel += 1) {
    const samples = sound.getChannelData(channel);
    for (let i = 0; i < mixed.length; i += 1) mixed[i] += samples[i] / sound.numberOfChannels;
  }
  return mixed;
}
