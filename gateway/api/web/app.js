// The page: creates its parts and connects them.

import { Dock } from "./dock.js";
import { plainMessage } from "./errors.js";
import { Kept } from "./kept.js";
import { Realtime } from "./realtime.js";
import { conversationText, copyText } from "./reply-tools.js";
import { apiKey, ask, setApiKey } from "./server.js";
import { SettingsSheet } from "./settings-sheet.js";
import { Speaker } from "./speaker.js";
import { Talk } from "./talk.js";
import { Transcript } from "./transcript.js";
import { VoiceSheet } from "./voice-sheet.js";
import { Welcome } from "./welcome.js";

const NOTICE_MS = 12_000;

const find = (selector) => document.querySelector(selector);
const endpoint = new URL("v1/realtime?model=chroma-1.0", location.href);
endpoint.protocol = endpoint.protocol.replace("http", "ws");

const speaker = new Speaker();
const talk = new Talk(new Realtime(endpoint), speaker);
const kept = new Kept();
const welcome = new Welcome(find("#welcome"));
const settings = new SettingsSheet(find("#settings"));
const voices = new VoiceSheet(find("#voices"), () => settings.values.microphone);
const dock = new Dock(find(".dock"), talk, speaker, notice);
const transcript = new Transcript(find("#turns"), {
  voiceName: () => find("#voice-name").textContent,
  isReplayed: (turn) => talk.replayed?.turn === turn,
  onReplay: (turn) => dock.attempt(talk.replay(turn)),
});

let noticeTimer = 0;
function notice(message) {
  const box = find("#notice");
  box.textContent = message;
  box.hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(hideNotice, NOTICE_MS);
}
function hideNotice() {
  find("#notice").hidden = true;
}
for (const kind of ["pointerdown", "keydown"]) document.addEventListener(kind, hideNotice, { capture: true }); // went on

let outOfDate = true;
const changed = new Set();
talk.onError = notice;
talk.onChange = (turn) => {
  if (turn) changed.add(turn);
  outOfDate = true;
};
talk.onTranscribes = (does) => settings.showTranscribes(does);
talk.onVoiceLost = async () => {
  const lost = find("#voice-name").textContent;
  await voices.load();
  const now = voices.picked ? `${voices.nameOf(voices.picked)} speaks from now on.` : "There is no other voice: add one.";
  notice(`The voice ${lost} was deleted. ${now}`);
};

talk.realtime.onRefused = refused;
welcome.onAsk = (question) => dock.ask(question);
voices.onError = (error) => (error.refused ? refused(error) : notice(error.message));
voices.onPreview = () => dock.silence();
voices.onPick = (voice) => {
  find("#voice-name").textContent = voice ? voices.nameOf(voice) : "Voices";
  talk.knowsVoices = true;
  welcome.invite(Boolean(voice));
  talk.configure({ voice: voice?.id ?? "" });
  if (voice && !talk.realtime.started) talk.realtime.connect(); // a conversation needs a voice
  outOfDate = true;
};
settings.checkPrompt = (text) => talk.checkPrompt(text);
settings.onChange = apply;

function apply(values) {
  dock.setVolume(values.volume / 100);
  voices.preview.volume = values.volume / 100;
  speaker.setDevice(values.speaker);
  talk.configure(values);
}

/** Say which credential the server wants. */
function refused(error) {
  if (apiKey()) notice(plainMessage(error));
  setApiKey("");
  welcome.refuse(error.needsToken);
  talk.connected("refused");
}

/** Read what the model is and knows, the turns of this tab's conversation, and the voices. Then connect. */
async function begin() {
  try {
    const { data } = await ask("v1/models");
    const [model] = data;
    welcome.describe(model.card);
    voices.describe(model.card);
    talk.maxInputS = model.limits.max_input_s;
    settings.maxPromptChars = model.limits.max_prompt_chars;
    settings.showTranscribes(model.transcribes);
    talk.turns = await kept.turns();
    talk.realtime.sessionId = kept.sessionId;
    for (const turn of talk.turns) changed.add(turn);
  } catch (error) {
    if (error.refused) {
      refused(error);
      return;
    }
    notice(error.message);
  }
  await voices.load();
}

find("#key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setApiKey(event.target.elements.key.value.trim());
  event.target.reset();
  begin();
});
find("#forget-key").addEventListener("click", () => {
  setApiKey("");
  location.reload();
});

find("#new").addEventListener("click", () => {
  transcript.clear();
  changed.clear();
  kept.begin("");
  dock.attempt(talk.renew());
  find("#conversation").focus();
});
find("#copy").addEventListener("click", async () => {
  await copyText(conversationText(talk.turns, find("#voice-name").textContent));
  find("#connection").textContent = "Copied";
  setTimeout(() => (outOfDate = true), 2000);
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

function frame(now) {
  requestAnimationFrame(frame);
  dock.animate(speaker.level, now);
  if (!outOfDate) return;
  outOfDate = false;
  if (talk.realtime.sessionId) kept.begin(talk.realtime.sessionId);
  for (const turn of changed) {
    if (!talk.turns.includes(turn)) continue; // of a conversation that was left
    transcript.show(turn);
    kept.note(turn);
  }
  changed.clear();
  welcome.root.hidden = talk.turns.length > 0 && !welcome.isRefused;
  find("#new").hidden = find("#copy").hidden = talk.turns.length === 0;
  find("#connection").textContent = talk.connection === "lost" && talk.settings.voice ? "Connection lost. Trying again…" : "";
  dock.show();
}

apply(settings.values);
begin();
requestAnimationFrame(frame);
