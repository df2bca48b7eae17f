// The voices of the server: /v1/voices.

import { ask } from "./server.js";

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
