// OpenAI's agents package talks to a gateway: `node agents.mjs ws://host:port/v1/realtime VOICE speech.pcm`.
// speech.pcm: an utterance, 16-bit little-endian at 24 kHz. Prints one JSON line that tells what happened.
import { readFileSync } from "node:fs";
import { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession } from "@openai/agents/realtime";

const [url, voice, file] = process.argv.slice(2);
const transport = new OpenAIRealtimeWebSocket({ url });
const agent = new RealtimeAgent({ name: "Test", instructions: "Be brief.", voice });
const session = new RealtimeSession(agent, { transport, model: "chroma-1.0" });

const told = { errors: [], events: [], turns: 0, audioBytes: 0, interrupted: 0 };
let turnDone = () => {};
session.on("error", (error) => told.errors.push(JSON.stringify(error)));
session.on("audio", (audio) => { told.audioBytes += audio.data.byteLength; });
session.on("audio_interrupted", () => { told.interrupted += 1; });
session.transport.on("*", (event) => {
  if (told.events.at(-1) !== event.type) told.events.push(event.type);
  if (event.type === "response.done") { told.turns += 1; told.status = event.response.status; turnDone(); }
});
const nextTurn = () => new Promise((resolve) => { turnDone = resolve; });
const send = async (pcm) => {
  for (let start = 0; start < pcm.byteLength; start += 4800) {
    session.sendAudio(pcm.buffer.slice(pcm.byteOffset + start, pcm.byteOffset + Math.min(start + 4800, pcm.byteLength)));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

await session.connect({ apiKey: "none" });
let done = nextTurn();
session.sendMessage("Please tell me how to make a taco.");
await done;
told.afterText = { turns: told.turns, audioBytes: told.audioBytes, status: told.status };

done = nextTurn();
const silence = new Uint8Array(48000 * 2); // two seconds
await send(new Uint8Array(readFileSync(file)));
await send(silence);
await done;
told.afterSpeech = { turns: told.turns, audioBytes: told.audioBytes, status: told.status };
told.history = session.history.map((item) => ({ role: item.role, content: item.content?.map((part) => part.type) }));
session.close();
console.log(JSON.stringify(told));
process.exit(0);
