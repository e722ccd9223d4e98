// A headless Chromium, driven over pipes by its own protocol, and a server for the page.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const TYPES = { ".js": "text/javascript", ".html": "text/html; charset=utf-8" };

/** Serves a folder, and gives its URL. */
export async function server(t, root = ROOT) {
  const serving = createServer((request, response) => {
    const file = path.join(root, path.normalize(new URL(request.url, "http://x").pathname));
    const type = TYPES[path.extname(file)];
    if (!type || !file.startsWith(root) || !existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": type }).end(readFileSync(file));
  });
  serving.listen(0, "127.0.0.1");
  await once(serving, "listening");
  t.after(() => {
    serving.close();
    serving.closeAllConnections();
  });
  return `http://127.0.0.1:${serving.address().port}`;
}

/** Opens a page, and gives what a test does with it. `before` runs in it before its own scripts. */
export async function page(t, url, { before = "", ready = "window.ready" } = {}) {
  const profile = mkdtempSync(path.join(tmpdir(), "driftless-chromium-"));
  // As root, as in a container, there is no sandbox. The page is the package's own.
  const args = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--force-color-profile=srgb", `--user-data-dir=${profile}`, "--lang=en-GB"];
  const child = spawn(process.env.DRIFTLESS_TEST_CHROMIUM, args, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
  const [, , , input, output] = child.stdio;
  const waiting = new Map();
  const events = [];
  let [rest, next] = ["", 1];
  output.setEncoding("utf8");
  output.on("data", (text) => {
    const messages = (rest + text).split("\0");
    rest = messages.pop();
    for (const message of messages.map((text) => JSON.parse(text))) {
      if (message.id === undefined) events.push(message);
      else waiting.get(message.id)?.(message);
      waiting.delete(message.id);
    }
  });
  let sessionId;
  const send = (method, params = {}) =>
    new Promise((resolve, reject) => {
      const id = next++;
      waiting.set(id, ({ result, error }) => (error ? reject(new Error(`${method}: ${error.message}`)) : resolve(result)));
      input.write(JSON.stringify({ id, method, params, sessionId }) + "\0");
    });
  t.after(async () => {
    // Its helpers end with it, and write nothing more into the profile.
    const gone = once(child, "exit");
    sessionId = undefined;
    await send("Browser.close");
    await gone;
    for (const pipe of child.stdio.slice(3)) pipe.destroy();
    rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  });
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  ({ sessionId } = await send("Target.attachToTarget", { targetId, flatten: true }));
  await send("Page.enable");
  await send("Runtime.enable");
  await send("Accessibility.enable");
  await send("Page.addScriptToEvaluateOnNewDocument", { source: before });
  await send("Page.navigate", { url });

  /** The value of an expression; of a promise, what it resolves to. */
  const evaluate = async (expression) => {
    const { result, exceptionDetails } = await send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  for (let looks = 0; !(await evaluate(`document.readyState === 'complete' && Boolean(${ready})`)); looks += 1) {
    if (looks > 3_000) throw new Error(`the page does not load: ${JSON.stringify(events.slice(-3))}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const keys = { Tab: 9, Enter: 13, Escape: 27 };
  return {
    evaluate,
    /** Presses a key. */
    press: async (key) => {
      const code = { key, code: key, windowsVirtualKeyCode: keys[key] };
      await send("Input.dispatchKeyEvent", { type: "keyDown", ...code, ...(key === "Enter" ? { text: "\r" } : {}) });
      await send("Input.dispatchKeyEvent", { type: "keyUp", ...code });
    },
    /** Light or dark. */
    scheme: (value) => send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }] }),
    size: (width, height) => send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 2, mobile: false }),
    /** A picture as PNG. */
    picture: async () => Buffer.from((await send("Page.captureScreenshot", { format: "png" })).data, "base64"),
    /** What a screen reader gets: role and name of each element that has both. */
    spoken: async () => {
      const { nodes } = await send("Accessibility.getFullAXTree");
      return nodes.filter(({ ignored }) => !ignored).map(({ role, name }) => `${role?.value} ${name?.value ?? ""}`.trim());
    },
    /** What went wrong in the page. */
    complaints: () => events.filter(({ method }) => method === "Runtime.exceptionThrown"),
  };
}
