// OpenAI's package for JavaScript: `node openai.mjs SCENARIO https://host:port/v1`. Prints one JSON line.
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";

const [scenario, baseURL] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });

const scenarios = {
  // One answer in text over Realtime, whose WebSocket this package always opens with TLS.
  async realtime() {
    const socket = new OpenAIRealtimeWS({ model: "chroma-1.0" }, client);
    const seen = { errors: [], text: "", status: "" };
    socket.on("error", (error) => { seen.errors.push(String(error)); socket.close(); });
    socket.on("response.output_text.delta", (event) => { seen.text += event.delta; });
    socket.on("response.done", (event) => { seen.status = event.response.status; socket.close(); });
    socket.socket.on("open", () => {
      const item = { type: "message", role: "user", content: [{ type: "input_text", text: "Hello." }] };
      socket.send({ type: "session.update", session: { type: "realtime", output_modalities: ["text"] } });
      socket.send({ type: "conversation.item.create", item });
      socket.send({ type: "response.create" });
    });
    await new Promise((resolve) => { socket.socket.on("close", resolve); });
    return seen;
  },
  async chat() {
    const messages = [{ role: "user", content: "Hello." }];
    const whole = await client.chat.completions.create({ model: "chroma-1.0", messages, modalities: ["text"] });
    const stream = await client.chat.completions.create({ model: "chroma-1.0", messages, modalities: ["text"], stream: true });
    let streamed = "";
    for await (const chunk of stream) streamed += chunk.choices[0]?.delta?.content ?? "";
    return { whole: whole.choices[0].message.content, streamed, reason: whole.choices[0].finish_reason };
  },
  async speech() {
    const fields = { model: "chroma-1.0", voice: "alloy", input: "Hello.", instructions: "cheerful", speed: 1.2 };
    const pcm = await client.audio.speech.create({ ...fields, response_format: "pcm" });
    const aac = await client.audio.speech.create({ ...fields, response_format: "aac" });
    return { pcm: (await pcm.arrayBuffer()).byteLength, aac: Buffer.from(await aac.arrayBuffer()).toString("hex", 0, 2) };
  },
  async responses() {
    const answer = await client.responses.create({ model: "chroma-1.0", input: "Hello.", instructions: "Be brief." });
    let streamed = "";
    for await (const event of await client.responses.create({ model: "chroma-1.0", input: "Hello.", stream: true })) {
      if (event.type === "response.output_text.delta") streamed += event.delta;
    }
    return { whole: answer.output_text, streamed };
  },
};
console.log(JSON.stringify(await scenarios[scenario]()));
