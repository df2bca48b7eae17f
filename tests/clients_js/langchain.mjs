// LangChain for JavaScript: `node langchain.mjs http://host:port/v1`. Prints one JSON line.
import { HumanMessage, SystemMessage } from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";

const [baseURL] = process.argv.slice(2);
const model = (fields) => new ChatOpenAI({ model: "chroma-1.0", apiKey: "none", maxRetries: 0, configuration: { baseURL }, ...fields });
const messages = [new SystemMessage("Be brief."), new HumanMessage("Hello.")];
const invoked = (await model().invoke(messages)).content;
let streamed = "";
for await (const chunk of await model().stream(messages)) streamed += chunk.content;
const stopped = (await model({ stop: [" dear"] }).invoke(messages)).content;
const responses = (await model({ useResponsesApi: true }).invoke(messages)).text;
console.log(JSON.stringify({ invoked, streamed, stopped, responses }));
