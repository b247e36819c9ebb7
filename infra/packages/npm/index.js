// A local server for tests, with free ports and temporary state.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, existsSync, openSync, closeSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { program as installed } from "./program.js";

const POLL_MILLISECONDS = 5;
const STOP_MILLISECONDS = 10_000;
const SECONDS = { seconds: 1, minutes: 60, hours: 3600, days: 86_400 };

/** Starts a server and waits until it is ready. */
export async function start({ options = [], program = installed(), timeout = 30_000 } = {}) {
  const directory = mkdtempSync(join(tmpdir(), "acs-identity-"));
  const logFile = join(directory, "server.log");
  const log = openSync(logFile, "w");
  // Variables, because each option of the caller beats its variable.
  const env = { ...process.env, ACS_IDENTITY_HTTPS_PORT: "0", ACS_IDENTITY_HTTP_PORT: "0" };
  if (!env.ACS_IDENTITY_DEV) env.ACS_IDENTITY_EPHEMERAL = "true";
  const child = spawn(program, ["--data-dir", directory, ...options], { env, stdio: ["ignore", log, log] });
  closeSync(log);
  const ended = new Promise((resolve) => child.once("exit", resolve).once("error", resolve));
  const server = new Server(child, ended, directory, logFile);
  try {
    await server.becomeReady(Date.now() + timeout);
  } catch (error) {
    await server.stop();
    throw error;
  }
  return server;
}

/** A running server. `start()` makes one. */
export class Server {
  #child; #ended; #logFile; #ready; #env; #killed;

  constructor(child, ended, dataDir, logFile) {
    this.#child = child;
    this.#ended = ended;
    this.#logFile = logFile;
    this.dataDir = dataDir;
    // A process that ends must not leave a server behind.
    this.#killed = () => child.kill("SIGKILL");
    process.once("exit", this.#killed);
  }

  async becomeReady(deadline) {
    let hasEnded = false;
    this.#ended.then(() => (hasEnded = true));
    const path = join(this.dataDir, "ready.json");
    while (!existsSync(path)) {
      if (hasEnded) throw new Error(`the server has ended\n${this.log}`);
      if (Date.now() > deadline) throw new Error(`the server is not ready in time\n${this.log}`);
      await wait(POLL_MILLISECONDS);
    }
    this.#ready = JSON.parse(readFileSync(path, "utf8"));
    this.#readVariables();
  }

  #readVariables() {
    const lines = readFileSync(join(this.dataDir, "env"), "utf8").trimEnd().split("\n");
    const parse = (line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("'") + 1, -1).replaceAll("'\\''", "'")];
    this.#env = Object.fromEntries(lines.map(parse));
  }

  get endpoint() { return this.#ready.endpoints.https; }
  get httpEndpoint() { return this.#ready.endpoints.http; }
  get env() { return { ...this.#env }; }
  get connectionString() { return this.#env.COMMUNICATION_SERVICES_CONNECTION_STRING; }
  get httpConnectionString() { return this.connectionString.replace(this.endpoint, this.httpEndpoint); }
  get log() { return readFileSync(this.#logFile, "utf8"); }

  async reset({ keys = false } = {}) {
    await this.control("POST", "reset", keys ? { keys } : {});
    if (keys) this.#readVariables();
  }

  seed(document) { return this.control("PUT", "seed", document); }
  async inspect(token) { return (await this.control("POST", "tokens/inspect", { tokens: [token] })).verdicts[0]; }
  state() { return this.control("GET", "state"); }
  restore(state) { return this.control("PUT", "state", state); }
  clock() { return this.control("GET", "clock"); }
  realTime() { return this.control("DELETE", "clock"); }

  async freeze(at) {
    return this.control("PUT", "clock", { frozen: true, at: at ? new Date(at).toISOString() : (await this.clock()).now });
  }

  async advance(duration) {
    const parts = Object.entries(duration).map(([unit, amount]) => amount * SECONDS[unit]);
    const seconds = parts.reduce((sum, part) => sum + part, 0);
    if (Number.isNaN(seconds)) throw new TypeError("give seconds, minutes, hours or days");
    const clock = await this.clock();
    if (clock.frozen) return this.freeze(Date.parse(clock.now) + seconds * 1000);
    const offset = Math.round(clock.offsetSeconds + seconds);
    return this.control("PUT", "clock", { offset: `${offset < 0 ? "-" : "+"}${Math.abs(offset)}s` });
  }

  async requests(filters = {}) {
    return (await this.control("GET", `requests?${new URLSearchParams(filters)}`)).requests;
  }

  control(method, path, body = {}) {
    const token = readFileSync(join(this.dataDir, "control-token"), "utf8").trim();
    const headers = { authorization: `Bearer ${token}` };
    const content = method === "GET" ? undefined : JSON.stringify(body);
    if (content !== undefined) headers["content-type"] = "application/json";
    return new Promise((resolve, reject) => {
      // The endpoint may have a name that only other machines can resolve.
      const here = `http://127.0.0.1:${new URL(this.httpEndpoint).port}/_local/v1/`;
      const sent = request(new URL(path, here), { method, headers }, async (answer) => {
        let text = "";
        for await (const part of answer.setEncoding("utf8")) text += part;
        if (answer.statusCode >= 300) {
          reject(Object.assign(new Error(`${method} ${path} was answered with ${answer.statusCode}: ${text}`), { status: answer.statusCode }));
        } else {
          resolve(text ? JSON.parse(text) : undefined);
        }
      });
      sent.on("error", reject).end(content);
    });
  }

  async stop() {
    process.off("exit", this.#killed);
    this.#child.kill("SIGTERM");
    const late = setTimeout(() => this.#child.kill("SIGKILL"), STOP_MILLISECONDS);
    await this.#ended;
    clearTimeout(late);
    rmSync(this.dataDir, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]() { await this.stop(); }
}
