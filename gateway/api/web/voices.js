// The voices of the server: /v1/voices.

import { ask, askBlob } from "./server.js";

/** Return all voices in order of their ids. */
export async function listVoices() {
  const answer = await ask("v1/voices?limit=1000");
  return answer.data;
}

/** Enrol a voice from a recording (a Blob). */
export function cloneVoice({ name, transcript, consent, recording, fileName }) {
  const form = new FormData();
  form.set("name", name);
  form.set("transcript", transcript);
  form.set("consent", consent);
  form.set("file", recording, fileName);
  return ask("v1/voices", { method: "POST", body: form });
}

/** Delete a voice. */
export function deleteVoice(id) {
  return ask(`v1/voices/${encodeURIComponent(id)}`, { method: "DELETE" });
}

/** Return a sound file in which the voice says a sentence. */
export function previewVoice(id, sentence) {
  const body = JSON.stringify({ model: "chroma-1.0", voice: id, input: sentence, response_format: "wav" });
  return askBlob("v1/audio/speech", { method: "POST", headers: { "Content-Type": "application/json" }, body });
}
