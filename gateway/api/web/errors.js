// The server's errors as sentences that say what to do.

const MESSAGES = {
  out_of_range: "The system prompt and the conversation are too long for this model. Shorten the prompt, or begin a new conversation.",
  unavailable: "The server cannot answer at the moment. Please try again.",
  deadline_exceeded: "The reply took too long. Please try again.",
};

/** @param {{code?: string, message: string}} error */
export function plainMessage({ code = "", message }) {
  if (code === "not_found" && message.startsWith("no voice")) return "The voice was deleted. Please ask again.";
  return MESSAGES[code] ?? sentence(message);
}

/** Without the name of a service before it, and with a capital letter and a full stop. */
function sentence(message) {
  const text = message.replace(/^(reasoner|speech_gen|codec|session\.[\w.]+): /, "");
  const whole = /[.!?]$/.test(text) ? text : `${text}.`;
  return whole[0].toUpperCase() + whole.slice(1);
}
