// Calls of the server, and the credential that they need. The credential stays in this tab: a later visit asks again.
//
// The document of a local stack carries a token that is new at each start. A server with API keys needs one of them.

const token = document.querySelector('meta[name="page-token"]')?.content ?? "";
const KEY = "chroma-voice.key";

/** An error that the server answered: `status` of HTTP, and `code` for programs. */
export class ServerError extends Error {
  constructor(status, { message, code } = {}) {
    super(message ?? `The server answered ${status}.`);
    this.status = status;
    this.code = code ?? "";
  }

  /** The credential is missing or wrong. */
  get refused() {
    return this.status === 401;
  }

  /** The credential is the token of a local stack's page. */
  get needsToken() {
    return this.code === "page_token_required";
  }
}

/** The user's API key; empty: there is none. */
export function apiKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function setApiKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** Call a path of the server, with the options of `fetch`. Return the answer's JSON. */
export async function ask(path, options) {
  const response = await call(path, options);
  return response.json().catch(() => null);
}

/** Call a path of the server, with the options of `fetch`. Return the answer's bytes. */
export async function askBlob(path, options) {
  const response = await call(path, options);
  return response.blob();
}

async function call(path, { headers = {}, ...options } = {}) {
  const credential = apiKey() || token;
  const authorization = credential ? { Authorization: `Bearer ${credential}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...headers, ...authorization } });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  if (!response.ok) {
    const answer = await response.json().catch(() => null);
    throw new ServerError(response.status, answer?.error);
  }
  return response;
}

/**
 * Return the credential of one WebSocket: an API key is exchanged for a secret that expires soon, because the address
 * and the headers of a WebSocket end up in logs. Empty: none is needed.
 */
export async function socketCredential() {
  if (!apiKey()) return token;
  const body = JSON.stringify({ session: { type: "realtime" } });
  const headers = { "Content-Type": "application/json" };
  const secret = await ask("v1/realtime/client_secrets", { method: "POST", headers, body });
  return secret.value;
}
