// Admits requests of an Express application by their access token. The README explains the two modes.

import { readFileSync } from "node:fs";

import { createRemoteJWKSet, errors, jwtVerify } from "jose";

const TABLE = JSON.parse(readFileSync(new URL("../capabilities.json", import.meta.url), "utf8"));

/** The state or the keys cannot be read, so there is no decision. The answer is 503. */
export class UnreadableStateError extends Error {}

/**
 * Introspects each token, so a revocation counts at once.
 *
 * @param {{endpoint: string, clientId: string, clientSecret: string}} options the endpoint with its slash at the end, and
 *   the credential of this resource server
 * @returns a check: it resolves to the access of an active token, and to null for any other token
 */
export function active({ endpoint, clientId, clientSecret }) {
  const url = new URL("introspect", required({ endpoint }));
  const pair = `${required({ clientId })}:${required({ clientSecret })}`;
  const headers = { authorization: `Basic ${Buffer.from(pair).toString("base64")}` };
  return async (token) => {
    const body = new URLSearchParams({ token });
    const request = { method: "POST", headers, body, redirect: "error", signal: AbortSignal.timeout(5_000) };
    const claims = await readable(async () => {
      const answer = await fetch(url, request);
      if (answer.status !== 200) throw new Error(`introspection answered ${answer.status}`);
      return answer.json();
    });
    if (claims.active !== true) return null;
    return {
      token,
      identity: claims.sub,
      scopes: claims.scope.split(" "),
      capabilities: claims.capabilities,
      capabilitiesByRoomRole: claims.capabilities_by_room_role,
      claims,
    };
  };
}

/**
 * Verifies tokens with the key set, which it fetches once a minute. It sees no revocation by itself:
 * `Watcher` does (watcher.js).
 *
 * @param {{endpoint: string, issuer: string, resourceId: string, isRevoked?: (claims: object, token: string) => boolean | Promise<boolean>}}
 *   options `isRevoked` may refuse the claims of a verified token. If it throws, the answer is 503
 * @returns a check, as of {@link active}
 */
export function offline({ endpoint, issuer, resourceId, isRevoked = () => false }) {
  // A replaced key leaves the cache within a minute. An unknown key causes at most one fetch a second.
  const keys = createRemoteJWKSet(new URL(".well-known/jwks.json", required({ endpoint })), {
    cacheMaxAge: 60_000,
    cooldownDuration: 1_000,
  });
  const expected = {
    algorithms: ["RS256", "ES256"],
    issuer: required({ issuer }),
    audience: required({ resourceId }),
    clockTolerance: 0,
    requiredClaims: ["exp", "iat", "iss", "aud", "sub", "jti", "acsScope"],
  };
  return async (token) => {
    const claims = await readable(() => verified(token, keys, expected));
    if (claims === null || (await readable(() => isRevoked(claims, token)))) return null;
    const scopes = claims.acsScope.split(",");
    const names = (permit) =>
      Object.keys(TABLE).filter((name) => TABLE[name][permit].some((scope) => scopes.includes(scope)));
    const access = { token, identity: claims.sub, scopes, claims };
    return { ...access, capabilities: names("granted"), capabilitiesByRoomRole: names("byRoomRole") };
  };
}

/**
 * A middleware that admits a token with this capability, also if the room role of the user decides about it. The handler
 * finds the access in `request.access`, and checks the role for the names in `capabilitiesByRoomRole`.
 */
export function requires(check, capability) {
  if (!Object.hasOwn(TABLE, capability)) throw new TypeError(`unknown capability: ${capability}`);
  return async (request, response, next) => {
    const refuse = (status, name, value) => response.status(status).set(name, value).end();
    const [, token] = /^bearer +([\w.~+/-]+=*)$/i.exec(request.headers.authorization ?? "") ?? [];
    if (token === undefined) return refuse(401, "WWW-Authenticate", "Bearer");
    let access;
    try {
      access = await check(token);
    } catch (failure) {
      if (failure instanceof UnreadableStateError) return refuse(503, "Retry-After", "1");
      return next(failure);
    }
    if (access === null) return refuse(401, "WWW-Authenticate", 'Bearer error="invalid_token"');
    if (![...access.capabilities, ...access.capabilitiesByRoomRole].includes(capability)) {
      return refuse(403, "WWW-Authenticate", 'Bearer error="insufficient_scope"');
    }
    request.access = access;
    return next();
  };
}

/** Returns the claims of a valid token, and null for any other token. Throws if the keys cannot be fetched. */
async function verified(token, keys, expected) {
  try {
    const { payload } = await jwtVerify(token, keys, expected);
    return typeof payload.acsScope === "string" ? payload : null;
  } catch (failure) {
    // jose has these codes for a fetch that failed. An error of another library comes from the network.
    const isUnread = ["ERR_JWKS_TIMEOUT", "ERR_JWKS_INVALID", "ERR_JOSE_GENERIC"].includes(failure.code);
    if (isUnread || !(failure instanceof errors.JOSEError)) throw failure;
    return null;
  }
}

async function readable(read) {
  try {
    return await read();
  } catch (cause) {
    throw new UnreadableStateError("no decision about a token", { cause });
  }
}

/** Returns the only value. jose skips the check of an undefined issuer or audience. */
function required(setting) {
  const [[name, value]] = Object.entries(setting);
  if (!value) throw new TypeError(`not set: ${name}`);
  return value;
}
