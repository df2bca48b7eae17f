// OpenAI's agents package holds a conversation with a gateway: `node agents.mjs ws://host:port/v1/realtime VOICE speech.pcm`.
// speech.pcm: an utterance, 16-bit little-endian at 24 kHz. Prints one JSON line with its observations.
import { readFileSync } from "node:fs";
import { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession } from "@openai/agents/realtime";

const [url, voice, file] = process.argv.slice(2);
const transport = new OpenAIRealtimeWebSocket({ url });
const agent = new RealtimeAgent({ name: "Test", instructions: "Be brief.", voice });
const session = new RealtimeSession(agent, { transport, model: "chroma-1.0" });

const seen = { errors: [], events: [], turns: 0, audioBytes: 0, interrupted: 0 };
let turnDone = () => {};
session.on("error", (error) => seen.errors.push(JSON.stringify(error)));
session.on("audio", (audio) => { seen.audioBytes += audio.data.byteLength; });
session.on("audio_interrupted", () => { seen.interrupted += 1; });
session.transport.on("*", (event) => {
  if (seen.events.at(-1) !== event.type) seen.events.push(event.type);
  if (event.type === "response.done") { seen.turns += 1; seen.status = event.response.status; turnDone(); }
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
seen.afterText = { turns: seen.turns, audioBytes: seen.audioBytes, status: seen.status };

done = nextTurn();
const silence = new Uint8Array(48000 * 2); // two seconds
await send(new Uint8Array(readFileSync(file)));
await send(silence);
await done;
seen.afterSpeech = { turns: seen.turns, audioBytes: seen.audioBytes, status: seen.status };
seen.history = session.history.map((item) => ({ role: item.role, content: item.content?.map((part) => part.type) }));
session.close();
console.log(JSON.stringify(seen));
process.exit(0);
