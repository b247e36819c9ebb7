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
    if (this.#hasEnded(claims, keyOf(token))) return true;
    if (claims.iat > this.#begunAt + CLOCK_DIFFERENCE || this.#known.has(claims.jti)) return false;
    const known = this.#known;
    if ((await this.#ask(token)) === null) return true;
    // After another beginning of the feed, this map is no longer in use.
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
    // The token may have ended since its check, so the next page checks it again.
    const connection = { claims, token, kid: keyOf(token), close, isChecked: false };
    this.#open.add(connection);
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
    if (this.#cursor === null) this.#begin();
    this.#cursor = cursor;
    this.#heardAt = performance.now();
    for (const end of ends) this.#apply(end);
    this.#forget();
    await this.#closeEnded();
  }

  /** The feed begins, or begins again. Earlier tokens may have ended unseen. */
  #begin() {
    this.#known = new Map();
    this.#begunAt = Date.now() / 1000;
    for (const connection of this.#open) connection.isChecked = false;
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

  #hasEnded({ sub, rev }, kid) {
    return this.#keys.has(kid) || rev < (this.#identities.get(sub)?.revision ?? 0);
  }

  /** Closes the connections whose token has ended. If the service cannot be asked, the next page tries again. */
  async #closeEnded() {
    for (const connection of this.#open) {
      if (this.#hasEnded(connection.claims, connection.kid)) this.#close(connection);
    }
    for (const connection of this.#open) {
      if (connection.isChecked) continue;
      if (await this.isRevoked(connection.claims, connection.token)) this.#close(connection);
      connection.isChecked = true;
    }
  }

  #close(connection) {
    this.#open.delete(connection);
    connection.close();
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

/** The key id in the header of a token. */
function keyOf(token) {
  return JSON.parse(Buffer.from(token.split(".")[0], "base64url")).kid;
}
