// The page: creates its parts and connects them.

import { Dock } from "./dock.js";
import { Realtime } from "./realtime.js";
import { apiKey, setApiKey } from "./server.js";
import { SettingsSheet } from "./settings-sheet.js";
import { Speaker } from "./speaker.js";
import { Talk } from "./talk.js";
import { Transcript } from "./transcript.js";
import { VoiceSheet } from "./voice-sheet.js";

const NOTICE_MS = 8000;

const find = (selector) => document.querySelector(selector);
const endpoint = new URL("v1/realtime?model=chroma-1.0", location.href);
endpoint.protocol = endpoint.protocol.replace("http", "ws");

const speaker = new Speaker();
const talk = new Talk(new Realtime(endpoint), speaker);
const voices = new VoiceSheet(find("#voices"));
const settings = new SettingsSheet(find("#settings"));
const transcript = new Transcript(find("#turns"), find("#conversation"), () => find("#voice-name").textContent);
const dock = new Dock(find(".dock"), talk, notice);

let noticeTimer = 0;
function notice(message) {
  const box = find("#notice");
  box.textContent = message;
  box.hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => (box.hidden = true), NOTICE_MS);
}

let outOfDate = true;
let isRefused = false;
const changed = new Set();
talk.onError = notice;
talk.onChange = (turn) => {
  if (turn) changed.add(turn);
  outOfDate = true;
};

talk.realtime.onRefused = refused;
voices.onError = (error) => (error.refused ? refused(error) : notice(error.message));
voices.onPick = (voice) => {
  find("#voice-name").textContent = voice ? voice.name || voice.id : "Voices";
  find("#welcome-title").textContent = "Say something.";
  find("#welcome-text").textContent = voice
    ? "You hear and read the reply while it is made. Speak at any time to interrupt it."
    : "Replies are spoken in a cloned voice. Record ten seconds of speech to add one.";
  find("#welcome-voices").hidden = Boolean(voice);
  find("#key-form").hidden = true;
  isRefused = false;
  talk.configure({ voice: voice?.id ?? "" });
  if (voice && !talk.realtime.started) talk.realtime.connect(); // a conversation needs a voice
  outOfDate = true;
};
settings.onChange = (values) => talk.configure(values);

/** Say which credential the server wants, and ask for an API key if it is one. */
function refused(error) {
  if (apiKey()) notice(error.message);
  setApiKey("");
  isRefused = true;
  find("#welcome-title").textContent = "No access yet.";
  find("#welcome-text").textContent = error.needsToken
    ? "The server was started again. Load this page again to talk to it."
    : "This server needs an API key.";
  find("#welcome-voices").hidden = true;
  find("#key-form").hidden = error.needsToken;
  talk.connected("refused");
}

find("#key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  find("#notice").hidden = true;
  setApiKey(event.target.elements.key.value.trim());
  event.target.reset();
  voices.load();
});
find("#forget-key").addEventListener("click", () => {
  setApiKey("");
  location.reload();
});

find("#open-voices").addEventListener("click", () => voices.show());
find("#welcome-voices").addEventListener("click", () => voices.show());
find("#open-settings").addEventListener("click", () => {
  find("#forget-key").hidden = !apiKey();
  settings.show();
});
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

function frame() {
  requestAnimationFrame(frame);
  dock.animate(speaker.level);
  if (!outOfDate) return;
  outOfDate = false;
  for (const turn of changed) transcript.show(turn);
  changed.clear();
  find("#welcome").hidden = talk.turns.length > 0 && !isRefused;
  find("#connection").textContent = talk.connection === "lost" ? "Connection lost. Trying again…" : "";
  dock.show();
}

talk.configure(settings.values);
voices.load();
frame();
