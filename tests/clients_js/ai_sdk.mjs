// The AI SDK: `node ai_sdk.mjs SCENARIO http://host:port/v1`. Prints one JSON line.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateSpeech, generateText, isStepCount, streamText, tool } from "ai";
import { z } from "zod";

const [scenario, baseURL] = process.argv.slice(2);
const openai = createOpenAI({ baseURL, apiKey: "none" });
const compatible = createOpenAICompatible({ name: "chroma", baseURL });
const prompt = "Hello.";
const weather = tool({
  description: "The weather of a city",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => ({ city, sky: "clear" }),
});
const steps = isStepCount(3);

const texts = async (model) => {
  const whole = await generateText({ model, prompt, system: "Be brief.", maxRetries: 0 });
  const streamed = streamText({ model, prompt, maxRetries: 0 });
  let text = "";
  for await (const part of streamed.textStream) text += part;
  return { whole: whole.text, reason: whole.finishReason, tokens: whole.usage.outputTokens, streamed: text };
};
const toolLoop = async (model) => {
  const { text, steps: taken } = await generateText({ model, prompt, tools: { get_weather: weather }, stopWhen: steps, maxRetries: 0 });
  return { text, calls: taken.flatMap((step) => step.toolCalls.map((call) => [call.toolName, call.input])) };
};
const scenarios = {
  responses: () => texts(openai("chroma-1.0")),
  chat: () => texts(openai.chat("chroma-1.0")),
  compatible: () => texts(compatible("chroma-1.0")),
  "tools-responses": () => toolLoop(openai("chroma-1.0")),
  "tools-chat": () => toolLoop(openai.chat("chroma-1.0")),
  "tools-refused": async () => {
    try {
      return await toolLoop(openai.chat("chroma-1.0"));
    } catch (error) {
      return { status: error.statusCode, message: error.message };
    }
  },
  async stop() {
    const { text } = await generateText({ model: compatible("chroma-1.0"), prompt, stopSequences: [" dear"], maxRetries: 0 });
    return { text };
  },
  async speech() {
    const { audio } = await generateSpeech({ model: openai.speech("chroma-1.0"), text: prompt, voice: "alloy", instructions: "cheerful", outputFormat: "wav", maxRetries: 0 });
    return { head: Buffer.from(audio.uint8Array.slice(0, 4)).toString() };
  },
};
console.log(JSON.stringify(await scenarios[scenario]()));
