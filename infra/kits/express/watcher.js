// Follows the revocation feed of the service, so that offline mode sees a revocation within seconds and open connections
// end with their tokens. docs/verify.md describes the feed and its delay.

import { active } from "./access.js";

/** How far the clocks of two machines may differ, in seconds. */
const CLOCK_DIFFERENCE = 300;
/** No token is valid for longer, in milliseconds. */
const LONGEST_LIFETIME = 25 * 3_600_000;
const LONGEST_PAUSE = 5_000;

export class Watcher {
  #url;
  #headers;
  #ask;
  #longestSilence;
  #cursor = null;
  #begunAt = Infinity;
  #heardAt = -Infinity;
  /** By identity: the lowest revision of a good token, and the time of the entry. */
  #identities = new Map();
  #keys = new Map();
  /** Ids of tokens that the service has called active since the feed began, with their expiry in seconds. */
  #known = new Map();
  #open = new Set();
  #stopped = new AbortController();

  /**
   * @param {{endpoint: string, clientId: string, clientSecret: string, longestSilence?: number}} options the endpoint with
   *   its slash at the end, the credential of this resource server, and the age of the last answer, in milliseconds, above
   *   which there is no decision (503)
   */
  constructor({ endpoint, clientId, clientSecret, longestSilence = 10_000 }) {
    this.#ask = active({ endpoint, clientId, clientSecret });
    this.#url = new URL("revocations", endpoint);
    this.#headers = { authorization: `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString("base64")}` };
    this.#longestSilence = longestSilence;
  }

  /** Follows the feed until {@link stop}. */
  async start() {
    for (let pause = 100; !this.#stopped.signal.aborted; ) {
      try {
        await this.#read();
        pause = 100;
      } catch {
        // `isRevoked` refuses to decide when the silence gets too long.
        await new Promise((resolve) => setTimeout(resolve, pause));
        pause = Math.min(2 * pause, LONGEST_PAUSE);
      }
    }
  }

  stop() {
    this.#stopped.abort();
  }

  /**
   * The option `isRevoked` of `offline`. A token from before the feed began may have ended unseen, so the service is asked
   * about it once.
   */
  isRevoked = async (claims, token) => {
    if (performance.now() - this.#heardAt > this.#longestSilence) throw new Error("the revocation feed is silent");
    if (this.#hasEnded(claims, token)) return true;
    if (claims.iat > this.#begunAt + CLOCK_DIFFERENCE || this.#known.has(claims.jti)) return false;
    const known = this.#known;
    if ((await this.#ask(token)) === null) return true;
    // If the feed has begun again meanwhile, this map is no longer in use.
    known.set(claims.jti, claims.exp);
    return false;
  };

  /**
   * Calls `close` when the token of an open connection ends.
   *
   * @param access the access that the check has returned
   * @returns a function that ends the watch
   */
  watch({ claims, token }, close) {
    const connection = { claims, token, close };
    this.#open.add(connection);
    const closeEnded = (hasEnded) => hasEnded && this.#close((other) => other === connection);
    // The token may have ended since its check. While the feed is silent, the next page tells.
    this.isRevoked(claims, token).then(closeEnded, () => {});
    return () => this.#open.delete(connection);
  }

  async #read() {
    const url = new URL(this.#url);
    if (this.#cursor !== null) url.search = new URLSearchParams({ after: this.#cursor, wait: "20" });
    const signal = AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(25_000)]);
    const answer = await fetch(url, { headers: this.#headers, redirect: "error", signal });
    if (answer.status === 410) {
      this.#cursor = null;
      return;
    }
    if (answer.status !== 200) throw new Error(`the feed answered ${answer.status}`);
    const { ends, cursor } = await answer.json();
    // If this fails, the feed begins again, so that each open connection is asked about.
    if (this.#cursor === null) await this.#begin();
    this.#cursor = cursor;
    this.#heardAt = performance.now();
    for (const end of ends) this.#apply(end);
    if (ends.length > 0) this.#close((connection) => this.#hasEnded(connection.claims, connection.token));
    this.#forget();
  }

  /** The feed begins, or begins again. Earlier tokens may have ended unseen. */
  async #begin() {
    this.#known = new Map();
    this.#begunAt = Date.now() / 1000;
    for (const connection of [...this.#open]) {
      if ((await this.#ask(connection.token)) === null) this.#close((other) => other === connection);
    }
  }

  #apply({ event, identity, lowestRevision = Infinity, kid }) {
    const at = performance.now();
    if (event === "key_replaced") {
      this.#keys.set(kid, { at });
      return;
    }
    const revision = Math.max(lowestRevision, this.#identities.get(identity)?.revision ?? 0);
    this.#identities.delete(identity);
    this.#identities.set(identity, { revision, at });
  }

  #hasEnded(claims, token) {
    const { kid } = JSON.parse(Buffer.from(token.split(".")[0], "base64url"));
    return this.#keys.has(kid) || claims.rev < (this.#identities.get(claims.sub)?.revision ?? 0);
  }

  #close(isChosen) {
    for (const connection of [...this.#open].filter(isChosen)) {
      this.#open.delete(connection);
      connection.close();
    }
  }

  /** Drops entries that are older than every valid token. The maps are in the order of their entries. */
  #forget() {
    const oldest = performance.now() - LONGEST_LIFETIME;
    for (const ends of [this.#identities, this.#keys]) {
      for (const [name, { at }] of ends) {
        if (at > oldest) break;
        ends.delete(name);
      }
    }
    for (const [id, expiry] of this.#known) if (expiry < Date.now() / 1000) this.#known.delete(id);
  }
}
