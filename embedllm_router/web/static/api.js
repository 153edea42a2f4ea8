// Asks the proxy. The key lives in this tab's session storage and nowhere else.

const KEY = "embedllm-key";

/** The proxy wants a key, or another one than it was given. */
export class Refused extends Error {}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/**
 * One answer of the proxy.
 * @param {string} name such as "overview"
 * @param {object} [params] null, undefined and "" are left out
 * @param {AbortSignal} [signal]
 */
export const ask = async (name, params, signal) => (await answerOf(name, params, signal)).json();

/** The same where the answer is a text. */
export const askText = async (name, params, signal) => (await answerOf(name, params, signal)).text();

async function answerOf(name, params = {}, signal = undefined) {
  const given = Object.entries(params).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = given.length ? `?${new URLSearchParams(given)}` : "";
  const headers = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  let answer;
  try {
    answer = await fetch(`api/${name}${query}`, { headers, signal, credentials: "omit", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The proxy does not answer. Is it running, and is this page still on its address?");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => null);
  const said = reasonOf(answer, body);
  // LiteLLM's own check answers {error}, and 400 rather than 401 to an unknown key when it has no database.
  const refused = answer.status === 401 || answer.status === 403 || (answer.status === 400 && body?.error);
  throw refused ? new Refused(said) : new Error(said);
}

function reasonOf(answer, body) {
  const detail = body?.detail ?? body?.error?.message ?? body?.message;
  if (Array.isArray(detail)) return detail.map((one) => `${one.loc?.at(-1) ?? "request"}: ${one.msg}`).join("; ");
  return typeof detail === "string" ? detail : `The proxy answered ${answer.status} ${answer.statusText}.`;
}
