// Asking the server: JSON, changes, and streams of events. Errors are for people: {message, hint}.

export class RequestError extends Error {
  constructor(message, hint, status) {
    super(message);
    this.hint = hint ?? "";
    this.status = status ?? 0;
  }
}

const GONE = new RequestError(
  "The server does not answer.",
  "It was stopped, or started anew. Start `onesense serve` again; what you typed here is kept.",
);

async function answered(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw GONE;
  }
  if (response.ok) return response;
  let told = {};
  try {
    told = await response.json();
  } catch {
    // not ours: say the status
  }
  throw new RequestError(told.error ?? `The server answered ${response.status}.`, told.hint, response.status);
}

export async function read(address, signal) {
  return (await answered(address, { signal, headers: { accept: "application/json" } })).json();
}

// A page of ours, parsed: nothing in it runs. Its errors come as JSON.
export async function readPage(address, signal) {
  const text = await (await answered(address, { signal, headers: { accept: "application/json" } })).text();
  return new DOMParser().parseFromString(text, "text/html");
}

export async function change(address, body, { method = "POST", signal } = {}) {
  const response = await answered(address, {
    method,
    signal,
    headers: { "content-type": "application/json", "x-onesense": "1" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return response.json();
}

const LAST = new Set(["done", "failed", "cancelled"]);

// Calls on(name, data) for each event; ends with the last of them. Throws where the stream breaks off.
export async function follow(address, { body, signal, on }) {
  const response = await answered(address, {
    method: body === undefined ? "GET" : "POST",
    signal,
    headers:
      body === undefined
        ? { accept: "text/event-stream" }
        : { "content-type": "application/json", "x-onesense": "1", accept: "text/event-stream" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw GONE;
    }
    if (part.done) throw GONE;
    waiting += part.value;
    const whole = waiting.split("\n\n");
    waiting = whole.pop();
    for (const event of whole) {
      const lines = event.split("\n");
      const name = lines.find((line) => line.startsWith("event: "))?.slice(7);
      const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
      if (!name) continue;
      on(name, JSON.parse(data.join("\n") || "{}"));
      if (LAST.has(name)) {
        await reader.cancel();
        return;
      }
    }
  }
}
