// The console of the local server. Texts of servers and clients are only ever shown as text.

const VERSION = 'api-version=2023-10-01';
const PREVIEW = 'api-version=2025-03-02-preview';
const SCOPES = ['chat', 'chat.join', 'chat.join.limited', 'voip', 'voip.join'];
const KEPT_LINES = 1000;
const SHOWN_LINES = 200;
const IDENTITY_PAGE = 50;

/** The capabilities, in the order of the ACS identity model. */
const CAPABILITIES = [
  ...['create_thread', 'update_thread', 'delete_thread', 'add_participant', 'remove_participant', 'list_threads',
    'get_thread', 'list_read_receipts', 'send_read_receipt', 'send_message', 'get_message', 'update_message',
    'delete_message', 'send_typing_notification', 'list_participants'].map((name) => `chat.${name}`),
  ...['start_call', 'start_room_call', 'join_call', 'join_room_call', 'act_in_call',
    'act_in_room_call'].map((name) => `voip.${name}`),
];

/** The next step after a refusal, by the code in `denial` of the audit line. */
const ADVICE = {
  ContentHash: 'Something changed the body after it was signed. Sign the bytes that are sent.',
  Credential: 'Use the client id and the secret that `acs-identity resource-server add` printed.',
  Host: 'Start the server with --host and this name.',
  Signature: 'Check the access key. Copy the connection string from the screen Connect.',
  Skew: 'Set the clock of the client. A signed request is good for five minutes.',
  Unassigned: 'Add an assignment on the screen Entra.',
};

const TEAMS = 'https://auth.msft.communication.azure.com';

/** The APIs of Entra tokens, and the exchange that takes each. */
const APIS = {
  'Teams calls and chats': { scope: `${TEAMS}/Teams.ManageCalls ${TEAMS}/Teams.ManageChats`, exchange: 'teams' },
  'Teams phone extensibility': { scope: `${TEAMS}/TeamsExtension.ManageCalls`, exchange: 'teamsExtension' },
  'Communication Services clients': { scope: 'https://communication.azure.com/clients/.default', exchange: 'entra' },
};

const state = {
  connection: null,
  clock: null,
  identities: [],
  total: 0,
  next: null,
  /** The tokens that this page issued: {token, identity, expires, verdict}. */
  tokens: [],
  lines: [],
  dropped: 0,
  isPaused: false,
  steps: [],
  people: [],
  lastEvent: null,
  /** Whether the server was gone, so that every list must be read again. */
  isStale: false,
  entraToken: null,
  /** The published keys, until a step of a replacement. */
  keySet: null,
  /** The token on the screen Token. */
  inspected: { text: '', verdict: null, offline: null },
};

// == The page ==

const byId = (id) => document.getElementById(id);

/** Cuts a text and makes control characters visible. */
function clean(text, most = 400) {
  const visible = String(text ?? '').replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return visible.length > most ? `${visible.slice(0, most)}…` : visible;
}

/** Makes an element. Its children are elements or texts. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.map((child) => (child instanceof Node ? child : clean(child))));
  return element;
}

/** A row of a table. A cell is a text, an element, or a list of both. */
const row = (...cells) => make('tr', {}, ...cells.map((cell) => make('td', {}, ...[cell].flat())));

const code = (text) => make('code', { className: 'break' }, text);

function button(text, action, properties = {}) {
  const made = make('button', { type: 'button', ...properties }, text);
  made.addEventListener('click', () => attempt(action));
  return made;
}

/** Shows a list of facts: [name, value, ...further elements]. */
function showFacts(id, facts) {
  byId(id).replaceChildren(...facts.flatMap(([name, ...values]) => [
    make('dt', {}, name),
    make('dd', {}, ...values.flatMap((value) => [value ?? '–', ' '])),
  ]));
}

let messageEnd;

/** Shows a message at the bottom for a while. Screen readers announce it. */
function say(text) {
  byId('message').textContent = clean(text);
  clearTimeout(messageEnd);
  messageEnd = setTimeout(() => byId('message').replaceChildren(), 6000);
}

/** Runs an action. A failure becomes a message. */
async function attempt(action) {
  try {
    await action();
  } catch (error) {
    say(error.message);
  }
}

let turn = Promise.resolve();

/** Runs updates one after another, so that an older answer never replaces a newer one. */
function inTurn(update) {
  turn = turn.catch(() => {}).then(update);
  return turn;
}

/** A masked secret. */
function secret(text) {
  const shown = code('••••••••');
  const toggle = button('Show', () => {
    const isMasked = toggle.textContent === 'Show';
    shown.textContent = isMasked ? clean(text, 8000) : '••••••••';
    toggle.textContent = isMasked ? 'Hide' : 'Show';
  });
  return [shown, toggle, copyButton(text)];
}

async function copy(text) {
  await navigator.clipboard.writeText(text);
  say('Copied.');
}

const copyButton = (text) => button('Copy', () => copy(text));

/** Asks for a confirmation. With a word, the person must type it. */
function confirmed(title, text, word = null) {
  const dialog = byId('confirm');
  byId('confirm-title').textContent = title;
  byId('confirm-text').textContent = text;
  byId('confirm-word-label').hidden = word === null;
  byId('confirm-word').value = '';
  const check = () => { byId('confirm-yes').disabled = word !== null && byId('confirm-word').value !== word; };
  byId('confirm-word').oninput = check;
  check();
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}

const time = (date) => new Date(date).toLocaleTimeString();
const dateTime = (date) => `${new Date(date).toLocaleDateString()} ${time(date)}`;

/** The time of tokens, in milliseconds. */
function now() {
  const { clock } = state;
  if (!clock) return Date.now();
  return clock.frozen ? Date.parse(clock.now) : Date.now() + clock.offsetSeconds * 1000;
}

function timeLeft(expires) {
  const minutes = Math.floor((Date.parse(expires) - now()) / 60_000);
  if (minutes < 0) return 'expired';
  return minutes >= 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min left` : `${minutes} min left`;
}

// == Calls ==

const encode = (text) => new TextEncoder().encode(text);
const base64 = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)));
const fromBase64 = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Shows a call as a command. */
function showCurl(method, path, headers, body) {
  const parts = ['curl', '-X', method, quoted(location.origin + path)];
  for (const [name, value] of headers) parts.push('\\\n  -H', name === '' ? value : quoted(`${name}: ${value}`));
  if (body) parts.push('\\\n  -d', quoted(body));
  byId('curl').textContent = parts.join(' ');
  byId('last-call').hidden = false;
}

async function send(method, path, headers, body) {
  const response = await fetch(path, { method, headers, body: body || undefined, cache: 'no-store' });
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  const reason = response.headers.get('x-acs-identity-reason');
  const message = answer?.error?.message ?? answer?.error_description ?? response.statusText;
  const error = new Error(`${response.status}: ${reason ?? message}`);
  error.status = response.status;
  throw error;
}

const controlHeaders = () => {
  const key = sessionStorage.getItem('control-token');
  return key ? { Authorization: `Bearer ${key}` } : {};
};

/** A call of the control API. A change is shown as a command. */
async function control(method, path, body) {
  const target = `/_local/v1/${path}`;
  const text = body === undefined ? '' : JSON.stringify(body);
  const headers = controlHeaders();
  if (method !== 'GET') {
    headers['Content-Type'] = 'application/json';
    showCurl(method, target, [
      ['', '"Authorization: Bearer $(cat .local/control-token)"'],
      ['Content-Type', 'application/json'],
    ], text || '{}');
  }
  return send(method, target, headers, method === 'GET' ? null : text || '{}');
}

const confirmation = () => ({ confirm: state.connection.resourceId });

/** A call of the service, signed with an access key as the SDKs sign. */
async function service(method, target, body, slot = 'primary') {
  const text = body === undefined ? '' : JSON.stringify(body);
  const date = new Date().toUTCString();
  const hash = base64(await crypto.subtle.digest('SHA-256', encode(text)));
  const accessKey = fromBase64(state.connection.connectionStrings[slot].split('accesskey=')[1]);
  const key = await crypto.subtle.importKey('raw', accessKey, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  const toSign = `${method}\n${target}\n${date};${location.host};${hash}`;
  const signature = base64(await crypto.subtle.sign('HMAC', key, encode(toSign)));
  const headers = {
    'x-ms-date': date,
    'x-ms-content-sha256': hash,
    Authorization: `HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=${signature}`,
    ...(text ? { 'Content-Type': 'application/json' } : {}),
  };
  showCurl(method, target, Object.entries(headers), text);
  return send(method, target, headers, text);
}

// == Connect ==

const SNIPPETS = {
  Python: `# pip install azure-communication-identity
import os
from azure.communication.identity import CommunicationIdentityClient

client = CommunicationIdentityClient.from_connection_string(
    os.environ["COMMUNICATION_SERVICES_CONNECTION_STRING"])
user, token = client.create_user_and_token(["chat", "voip"])
print(user.properties["id"], token.token)`,
  JavaScript: `// npm install @azure/communication-identity
import { CommunicationIdentityClient } from "@azure/communication-identity";

const client = new CommunicationIdentityClient(process.env.COMMUNICATION_SERVICES_CONNECTION_STRING);
const { user, token } = await client.createUserAndToken(["chat", "voip"]);
console.log(user.communicationUserId, token);`,
  Java: `var client = new CommunicationIdentityClientBuilder()
    .connectionString(System.getenv("COMMUNICATION_SERVICES_CONNECTION_STRING"))
    .buildClient();
var created = client.createUserAndToken(List.of(CommunicationTokenScope.CHAT));
System.out.println(created.getUserToken().getToken());`,
  '.NET': `var client = new CommunicationIdentityClient(
    Environment.GetEnvironmentVariable("COMMUNICATION_SERVICES_CONNECTION_STRING"));
var created = await client.CreateUserAndTokenAsync(scopes: [CommunicationTokenScope.Chat]);
Console.WriteLine(created.Value.AccessToken.Token);`,
  Shell: `acs-identity user create
acs-identity token issue --scope chat voip`,
};

function showConnect() {
  const { connection } = state;
  const strings = connection.connectionStrings;
  const environment = `set -a; . ${connection.environmentFile}; set +a`;
  showFacts('connection-facts', [
    ['Endpoint', code(connection.endpoint), copyButton(connection.endpoint)],
    ['Over HTTP', code(connection.httpEndpoint)],
    ['Resource', code(connection.resourceId)],
    ['Tokens', `signed with ${connection.algorithm}`],
    ['Primary connection string', ...secret(strings.primary)],
    ['Secondary connection string', ...secret(strings.secondary)],
    ['Variables for a shell', code(environment), copyButton(environment)],
  ]);
  byId('snippet').textContent = SNIPPETS[byId('snippet-language').value];
}

// == Identities ==

async function loadIdentities() {
  const page = await control('GET', `identities?limit=${IDENTITY_PAGE}`);
  Object.assign(state, { identities: page.identities, next: page.next, total: page.total });
  drawIdentities();
}

async function loadMoreIdentities() {
  const page = await control('GET', `identities?limit=${IDENTITY_PAGE}&after=${encodeURIComponent(state.next)}`);
  state.identities.push(...page.identities);
  state.next = page.next;
  drawIdentities();
}

async function searchIdentity() {
  const id = byId('identity-search').value.trim();
  const isKnown = state.identities.some((identity) => identity.id === id);
  if (id.startsWith('8:') && !isKnown) {
    const found = await control('GET', `identities/${encodeURIComponent(id)}`).catch(() => null);
    if (found) state.identities.push(found);
  }
  drawIdentities();
}

function drawIdentities() {
  const wanted = byId('identity-search').value.trim().toLowerCase();
  const shown = state.identities.filter((identity) => identity.id.toLowerCase().includes(wanted));
  byId('identity-rows').replaceChildren(...shown.map(identityRow));
  byId('identity-count').textContent = state.total;
  byId('identity-empty').hidden = shown.length > 0;
  byId('identity-more').hidden = !state.next;
}

function identityRow({ id, origin, created, revision, state: life }) {
  const last = state.lines.findLast((line) => line.identity === id);
  const link = make('a', { href: `#identities/${encodeURIComponent(id)}`, className: 'break' }, id);
  return row(link, origin, dateTime(created), revision, make('span', { className: `badge ${life}` }, life),
    last ? `${time(last.timestamp)} ${last.operation}` : '–', life === 'live' ? identityActions(id) : []);
}

function identityActions(id) {
  return [
    button('Issue token', () => issue(id)),
    button('Revoke', () => revoke(id), { title: 'Revoke all tokens of this identity' }),
    button('Delete', () => removeIdentity(id), { className: 'danger' }),
  ];
}

const identityPath = (id) => `/identities/${encodeURIComponent(id).replaceAll('%3A', ':')}`;

async function issue(id) {
  const body = { scopes: chosenScopes().length ? chosenScopes() : ['chat', 'voip'], expiresInMinutes: chosenMinutes() };
  const answer = await service('POST', `${identityPath(id)}/:issueAccessToken?${VERSION}`, body, chosenSlot());
  keepToken(id, answer);
  say(`A token was issued for ${id}.`);
}

async function revoke(id) {
  await service('POST', `${identityPath(id)}/:revokeAccessTokens?${VERSION}`);
  say(`Every token of ${id} is revoked.`);
  await askVerdicts();
}

async function removeIdentity(id) {
  if (!await confirmed('Delete this identity?', `${id} and all its tokens end.`)) return;
  await service('DELETE', `${identityPath(id)}?${VERSION}`);
  say(`${id} is deleted.`);
  await askVerdicts();
}

const form = () => byId('generate').elements;
const chosenScopes = () => SCOPES.filter((scope) => byId(`scope-${scope}`).checked);
const chosenMinutes = () => form().minutes.valueAsNumber;
const chosenSlot = () => form().slot.value;

async function generate() {
  const scopes = chosenScopes();
  const body = scopes.length ? { createTokenWithScopes: scopes, expiresInMinutes: chosenMinutes() } : {};
  const { identity, accessToken } = await service('POST', `/identities?${VERSION}`, body, chosenSlot());
  if (accessToken) keepToken(identity.id, accessToken);
  byId('generated').hidden = false;
  const link = make('a', { href: `#identities/${encodeURIComponent(identity.id)}`, className: 'break' }, identity.id);
  showFacts('generated-facts', [['Identity', link, copyButton(identity.id)], ...(accessToken ? tokenFacts(accessToken) : [])]);
  say('Generated.');
}

const tokenFacts = ({ token, expiresOn }) => [
  ['Access token', ...secret(token), button('Inspect', () => inspect(token))],
  ['Expires', `${dateTime(expiresOn)}, ${timeLeft(expiresOn)}`],
];

function keepToken(identity, { token, expiresOn }) {
  state.tokens.unshift({ identity, token, expires: expiresOn, verdict: { active: true } });
  state.tokens.length = Math.min(state.tokens.length, 100);
  drawTokens();
}

async function showIdentity(id) {
  byId('identity-title').textContent = clean(id);
  const identity = await control('GET', `identities/${encodeURIComponent(id)}`);
  showFacts('identity-facts', [
    ['State', make('span', { className: `badge ${identity.state}` }, identity.state)],
    ['Revision', identity.revision],
    ['Origin', identity.origin],
    ['Created', dateTime(identity.created)],
  ]);
  byId('identity-actions').replaceChildren(...(identity.state === 'live' ? identityActions(id) : []));
  drawTokens();
  drawIdentityRequests(id);
}

function drawIdentityRequests(id) {
  const lines = state.lines.filter((line) => line.identity === id).slice(-50).reverse();
  byId('identity-requests').replaceChildren(...lines.map((line) => make('li', {},
    `${time(line.timestamp)} ${line.operation} `, outcomeBadge(line), ` ${line.reason ?? ''}`)));
  byId('identity-requests-empty').hidden = lines.length > 0;
}

// == Tokens and their verdicts ==

function verdictDot({ active, reason }) {
  return make('span', { className: active ? 'active' : 'inactive' },
    make('span', { className: 'dot', ariaHidden: 'true' }), active ? 'active' : `inactive: ${reason}`);
}

function drawTokens() {
  const id = openIdentity();
  const tokens = state.tokens.filter(({ identity }) => identity === id);
  byId('identity-tokens').replaceChildren(...tokens.map(({ token, expires, verdict }) => make('li', {},
    verdictDot(verdict), code(`${token.slice(0, 12)}…${token.slice(-8)}`), timeLeft(expires),
    button('Inspect', () => inspect(token)), copyButton(token))));
  byId('identity-tokens-empty').hidden = tokens.length > 0;
}

/** Asks for the verdicts on the tokens that the visible screen shows, in one call. */
async function askVerdicts() {
  const screen = currentScreen();
  const id = openIdentity();
  const shown = screen === 'identity' ? state.tokens.filter(({ identity }) => identity === id) : [];
  const { inspected } = state;
  const isInspecting = screen === 'token' && inspected.text !== '';
  const tokens = shown.map(({ token }) => token).concat(isInspecting ? [inspected.text] : []);
  if (tokens.length === 0) return;
  const headers = { ...controlHeaders(), 'Content-Type': 'application/json' };
  const { verdicts } = await send('POST', '/_local/v1/tokens/inspect', headers, JSON.stringify({ tokens }));
  const ended = shown.filter((token, index) => token.verdict.active && !verdicts[index].active);
  shown.forEach((token, index) => { token.verdict = verdicts[index]; });
  if (ended.length > 0) say(`${ended.length} token${ended.length > 1 ? 's' : ''} became inactive: ${ended[0].verdict.reason}`);
  if (screen === 'identity') drawTokens();
  if (isInspecting && inspected.text === tokens.at(-1)) {
    inspected.verdict = verdicts.at(-1);
    inspected.offline = await offlineVerdict(inspected.text, inspected.verdict);
    drawInspected();
  }
}

const invalid = (reason) => ({ valid: false, reason });

/** What a verifier with the key set alone finds: signature, issuer's key and expiry. */
async function offlineVerdict(text, { header, claims }) {
  if (!header || !claims) return invalid('the token cannot be read');
  state.keySet ??= await send('GET', '/.well-known/jwks.json', {});
  const jwk = state.keySet.keys.find(({ kid }) => kid === header.kid);
  if (!jwk) return invalid('the key set has no key with this id');
  const [input, signature] = text.split(/\.(?=[^.]*$)/);
  const algorithm = jwk.kty === 'EC'
    ? { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
    : { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
  try {
    const key = await crypto.subtle.importKey('jwk', { ...jwk, use: undefined, key_ops: undefined }, algorithm, false, ['verify']);
    const bytes = fromBase64(signature.replaceAll('-', '+').replaceAll('_', '/'));
    if (!await crypto.subtle.verify(algorithm, key, bytes, encode(input))) return invalid('the signature is wrong');
  } catch {
    return invalid('the signature cannot be read');
  }
  if (claims.aud !== state.connection.resourceId) return invalid('the audience is another resource');
  return claims.exp * 1000 > now() ? { valid: true } : invalid('the token has expired');
}

function inspect(token) {
  byId('token-text').value = token;
  location.hash = '#token';
  readInspected();
}

function readInspected() {
  state.inspected = { text: byId('token-text').value.trim(), verdict: null, offline: null };
  byId('token-result').hidden = state.inspected.text === '';
  attempt(askVerdicts);
}

function drawInspected() {
  const { text, verdict, offline } = state.inspected;
  byId('token-result').hidden = false;
  showFacts('token-verdict', [
    ['At the server', verdictDot(verdict)],
    ['With the key set alone', offline.valid ? 'valid' : `invalid: ${offline.reason}`],
  ]);
  const isDate = (name, value) => ['exp', 'iat', 'nbf'].includes(name) && Number.isFinite(value);
  const facts = (members) => Object.entries(members ?? {}).map(([name, value]) => [
    clean(name, 60),
    code(JSON.stringify(value)),
    isDate(name, value) ? dateTime(value * 1000) : '',
  ]);
  showFacts('token-claims', facts(verdict.claims));
  showFacts('token-header', facts(verdict.header));
  const permit = (name) => {
    if (verdict.permits?.includes(name)) return 'granted';
    return verdict.permitsByRoomRole?.includes(name) ? 'by room role' : 'refused';
  };
  byId('token-matrix').replaceChildren(...CAPABILITIES.map((name) => make('tr', {},
    make('th', { scope: 'row' }, name.replace('.', ': ').replaceAll('_', ' ')),
    make('td', {}, make('span', { className: `badge ${permit(name).split(' ')[0]}` }, permit(name))))));
  const form = quoted(`token=${clean(text, 4000)}`);
  byId('token-curl').textContent = `curl -u "$CLIENT_ID:$CLIENT_SECRET" -d ${form} ${location.origin}/introspect`;
}

// == Requests ==

function outcomeBadge({ outcome, status }) {
  return make('span', { className: `badge ${outcome}` }, `${status ?? ''} ${outcome}`.trim());
}

function keepLine(line) {
  state.lines.push(line);
  if (state.lines.length > KEPT_LINES) state.lines.shift();
  const operations = byId('request-operation');
  if (line.operation && ![...operations.options].some(({ value }) => value === line.operation)) {
    operations.append(make('option', {}, line.operation));
  }
}

function drawRequests() {
  const text = byId('request-text').value.trim().toLowerCase();
  const [operation, outcome] = [byId('request-operation').value, byId('request-outcome').value];
  const shown = state.lines.filter((line) => (!operation || line.operation === operation)
    && (!outcome || line.outcome === outcome)
    && (!text || JSON.stringify(line).toLowerCase().includes(text)));
  byId('request-rows').replaceChildren(...shown.slice(-SHOWN_LINES).reverse().map(requestRow));
  byId('request-empty').hidden = shown.length > 0;
  byId('request-dropped').textContent = state.dropped ? `${state.dropped} lines came too fast to show` : '';
}

function requestRow(line) {
  const open = button(time(line.timestamp), () => showRequest(line), { className: 'link' });
  return row(open, line.operation ?? '–', line.status, outcomeBadge({ outcome: line.outcome }), code(line.identity ?? '–'),
    code(line.principal ?? line.slot ?? '–'), clean(line.sdk ?? '–', 60), (line.latencyUs / 1000).toFixed(1));
}

function showRequest(line) {
  byId('request-number').textContent = line.number;
  const facts = [['Outcome', outcomeBadge(line)]];
  if (line.reason) facts.push(['Reason', line.reason]);
  if (ADVICE[line.denial]) facts.push(['What to do', ADVICE[line.denial]]);
  showFacts('request-explained', facts);
  byId('request-line').textContent = JSON.stringify(line, (_, value) => (typeof value === 'string' ? clean(value) : value), 2);
  byId('request-detail').hidden = false;
  byId('request-detail').focus();
}

// == Keys ==

async function showKeys() {
  const { signingKeys } = await control('GET', 'keys');
  byId('key-rows').replaceChildren(...signingKeys.keys.map(({ slot, keyId, algorithm, publishedAt }) => (
    row(slot, code(keyId), algorithm, dateTime(publishedAt)))));
  drawSteps();
}

function drawSteps() {
  byId('key-steps').replaceChildren(...state.steps.map((step) => make('li', {},
    `${time(step.timestamp)} ${step.operation} (${step.trigger}) ${step.step} `, outcomeBadge(step))));
  byId('key-steps-empty').hidden = state.steps.length > 0;
}

async function rotate() {
  if (!await confirmed('Rotate the signing keys?', 'Every token of every identity is revoked at once. Access keys stay.')) return;
  await control('POST', 'keys/rotate', confirmation());
  say('The signing keys are new. Every former token is revoked.');
  await showKeys();
}

async function regenerate(slot) {
  const text = 'The key ends at once, and so does every token that was issued through it.';
  if (!await confirmed(`Regenerate the ${slot} key?`, text)) return;
  await control('POST', 'keys/regenerate', { slot, ...confirmation() });
  state.connection = await control('GET', 'connection');
  showFacts('new-key', [[`New ${slot} connection string`, ...secret(state.connection.connectionStrings[slot])]]);
  say(`The ${slot} key is new.`);
  await showKeys();
}

// == Entra ==

async function showEntra() {
  const { entra } = state.connection;
  byId('entra-off').hidden = Boolean(entra);
  byId('entra-on').hidden = !entra;
  if (entra) {
    showFacts('entra-facts', [
      ['Authority', code(entra.authority), copyButton(entra.authority)],
      ['Tenant', code(entra.tenantId)],
      ...entra.applications.map(({ clientId, secret: password }) => [
        password ? 'Application with a secret' : 'Public client',
        code(clientId), ...(password ? secret(password) : []),
      ]),
    ]);
    await inTurn(showPeople);
  }
  await inTurn(showAssignments);
}

async function showPeople() {
  state.people = (await control('GET', 'entra/people')).people;
  byId('person-rows').replaceChildren(...state.people.map(personRow));
  const select = byId('sign-in-person');
  const chosen = select.value;
  select.replaceChildren(...state.people.map(({ name }) => make('option', { value: name, selected: name === chosen }, name)));
  byId('get-token').disabled = false;
}

function personRow({ name, kind, objectId, password }) {
  const next = kind === 'disabled' ? 'member' : 'disabled';
  const change = async () => {
    await control('POST', 'entra/people', { name, kind: next, objectId });
    await showEntra();
  };
  return row(name, kind, code(objectId), secret(password), button(next === 'disabled' ? 'Disable' : 'Enable', change));
}

async function addPerson() {
  const { name, kind } = byId('add-person').elements;
  await control('POST', 'entra/people', { name: name.value.trim(), kind: kind.value });
  say(`${name.value} can sign in.`);
  byId('add-person').reset();
  await showEntra();
}

const publicClient = () => state.connection.entra.applications.find(({ secret: password }) => !password).clientId;

async function signIn() {
  state.entraToken = null;
  byId('exchange').disabled = true;
  byId('entra-result').replaceChildren();
  const { person, api } = byId('sign-in').elements;
  const { name, password, objectId } = state.people.find((known) => known.name === person.value);
  const body = new URLSearchParams({
    grant_type: 'password', client_id: publicClient(), username: name, password, scope: APIS[api.value].scope,
  });
  const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
  showCurl('POST', '/adfs/oauth2/v2.0/token', Object.entries(headers), body.toString().replace(/password=[^&]+(?=&scope)/, 'password=…'));
  const answer = await send('POST', '/adfs/oauth2/v2.0/token', headers, body.toString());
  state.entraToken = { token: answer.access_token, exchange: APIS[api.value].exchange, objectId };
  byId('exchange').disabled = false;
  showFacts('entra-result', [['Entra token', ...secret(answer.access_token)]]);
  say(`${name} has a token of Entra.`);
}

async function exchange() {
  const { token, exchange: kind, objectId } = state.entraToken;
  const bearer = { Authorization: `Bearer ${token}` };
  const targets = { entra: '/access/entra', teamsExtension: '/access/teamsExtension' };
  let answer;
  if (kind === 'teams') {
    answer = await service('POST', `/teamsUser/:exchangeAccessToken?${VERSION}`, { token, appId: publicClient(), userId: objectId });
  } else {
    const target = `${targets[kind]}/:exchangeAccessToken?${PREVIEW}`;
    showCurl('POST', target, [['Authorization', 'Bearer $ENTRA_TOKEN']], '');
    answer = await send('POST', target, { ...bearer, 'Content-Type': 'application/json' }, '{}');
  }
  showFacts('entra-result', [['Entra token', ...secret(token)], ...tokenFacts(answer.accessToken ?? answer)]);
  say('Exchanged.');
}

const assignmentPath = ({ list, tenantId, objectId }) => (list === 'entra'
  ? `/access/entra/assignments/${objectId}?${PREVIEW}`
  : `/access/teamsExtension/tenants/${tenantId}/assignments/${objectId}?${PREVIEW}`);

async function showAssignments() {
  const { assignments } = await control('GET', 'assignments');
  byId('assignment-rows').replaceChildren(...assignments.map((assignment) => {
    const { list, tenantId, objectId, principalType, clientIds } = assignment;
    const remove = async () => {
      await service('DELETE', assignmentPath(assignment));
      await inTurn(showAssignments);
    };
    return row(list, code(tenantId), code(objectId), principalType, clientIds?.join(' ') ?? 'all', button('Remove', remove));
  }));
  byId('assignment-empty').hidden = assignments.length > 0;
}

const PRINCIPALS = { entra: ['user', 'group', 'tenant'], teamsExtension: ['user', 'teamsResourceAccount'] };

function showPrincipals() {
  const { list, principal } = byId('assign').elements;
  principal.replaceChildren(...PRINCIPALS[list.value].map((name) => make('option', {}, name)));
}

async function assign() {
  const { list, object, principal, client } = byId('assign').elements;
  const tenantId = state.connection.entra?.tenantId;
  const body = { principalType: principal.value, clientIds: [client.value.trim()] };
  if (list.value === 'entra') body.tenantId = tenantId;
  await service('PUT', assignmentPath({ list: list.value, tenantId, objectId: object.value.trim() }), body);
  say('Assigned.');
  await inTurn(showAssignments);
}

// == Test ==

function showClock(clock) {
  state.clock = clock;
  const isShifted = clock.frozen || clock.offsetSeconds !== 0;
  byId('clock-badge').hidden = !isShifted;
  byId('clock-badge').textContent = clock.frozen ? 'clock stopped' : `clock ${shift(clock.offsetSeconds)}`;
  showFacts('clock-facts', [
    ['Now', dateTime(now())],
    ['Distance from real time', shift(clock.offsetSeconds)],
    ['Running', clock.frozen ? 'no' : 'yes'],
  ]);
}

function shift(seconds) {
  const minutes = Math.round(Math.abs(seconds) / 60);
  return `${seconds < 0 ? '−' : '+'}${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

async function setClock(method, body) {
  showClock(await control(method, 'clock', body));
  say(`The clock of tokens is at ${dateTime(now())}.`);
  await askVerdicts();
}

async function reset(word = null) {
  const text = 'Identities, assignments, added people, requests and the shift of the clock are removed. Keys stay.';
  if (!await confirmed(word ? 'Delete all identities?' : 'Reset the server?', text, word)) return;
  await control('POST', 'reset', confirmation());
  say('The server is empty.');
}

async function saveSnapshot() {
  const snapshot = await control('GET', 'state');
  const url = URL.createObjectURL(new Blob([JSON.stringify(snapshot)], { type: 'application/json' }));
  make('a', { href: url, download: 'snapshot.json' }).click();
  URL.revokeObjectURL(url);
}

async function loadSnapshot() {
  const [file] = byId('snapshot-load').files;
  const snapshot = JSON.parse(await file.text());
  byId('snapshot-load').value = '';
  if (!await confirmed('Load this snapshot?', 'It replaces identities and assignments. Every token ends.')) return;
  await control('PUT', 'state', { ...snapshot, ...confirmation() });
  say('The snapshot is loaded.');
}

// == Screens ==

const openIdentity = () => (location.hash.startsWith('#identities/') ? decodeURIComponent(location.hash.slice(12)) : null);

function currentScreen() {
  if (openIdentity()) return 'identity';
  const name = location.hash.slice(1);
  return name in SCREENS ? name : 'connect';
}

const SCREENS = {
  connect: showConnect,
  identities: () => inTurn(loadIdentities),
  identity: () => showIdentity(openIdentity()),
  token: () => {},
  requests: drawRequests,
  keys: showKeys,
  entra: showEntra,
  test: async () => showClock(await control('GET', 'clock')),
};

function show(name) {
  for (const section of document.querySelectorAll('main > section')) section.hidden = section.id !== `screen-${name}`;
  const link = name === 'identity' ? 'identities' : name;
  for (const item of document.querySelectorAll('nav a')) {
    const isOpen = item.hash === `#${link}`;
    item.ariaCurrent = isOpen ? 'page' : null;
    if (isOpen) item.scrollIntoView({ block: 'nearest' });
  }
  document.title = `${byId(`screen-${name}`).querySelector('h1').textContent} – Identity console`;
}

function openScreen() {
  if (!state.connection) return;
  const name = currentScreen();
  show(name);
  attempt(SCREENS[name]);
  attempt(askVerdicts);
}

// == The stream of events ==

const CHANGING = /create|delete|revoke|exchange/;
const waiting = new Set();

/** Runs an update soon, and at most once in the pause. */
function soon(update, pause) {
  if (waiting.has(update)) return;
  waiting.add(update);
  setTimeout(() => {
    waiting.delete(update);
    attempt(update);
  }, pause);
}

function refreshLines() {
  const screen = currentScreen();
  if (screen === 'requests' && !state.isPaused) drawRequests();
  if (screen === 'identity') drawIdentityRequests(openIdentity());
  if (screen === 'keys') drawSteps();
}

function refreshRecords() {
  const screen = currentScreen();
  return ['identities', 'identity', 'entra'].includes(screen) ? SCREENS[screen]() : null;
}

function takeEvent(name, id, data) {
  if (id) state.lastEvent = id;
  if (name === 'dropped') state.dropped += Number(data);
  if (name === 'clock') showClock(JSON.parse(data));
  if (name === 'reset') {
    state.lines = [];
    soon(refreshRecords, 0);
  }
  if (name === 'request') {
    const line = { number: Number(id), ...JSON.parse(data) };
    keepLine(line);
    if (line.outcome === 'success' && CHANGING.test(line.operation)) {
      soon(refreshRecords, 500);
      soon(askVerdicts, 0);
    }
  }
  if (name === 'keys') {
    state.steps.unshift(JSON.parse(data));
    state.steps.length = Math.min(state.steps.length, 100);
    state.keySet = null;
    soon(askVerdicts, 0);
  }
  soon(refreshLines, 200);
}

/** Parses the parts of a stream into events. */
function eventParser() {
  let rest = '';
  return (text) => {
    const parts = (rest + text).split('\n\n');
    rest = parts.pop();
    for (const part of parts) {
      const fields = Object.fromEntries(part.split('\n').map((row) => [row.slice(0, row.indexOf(':')), row.slice(row.indexOf(':') + 2)]));
      if (fields.event) takeEvent(fields.event, fields.id, fields.data);
    }
  };
}

async function readEvents() {
  if (state.isStale) {
    state.connection = await control('GET', 'connection');
    state.isStale = false;
    openScreen();
  }
  const headers = controlHeaders();
  if (state.lastEvent) headers['Last-Event-ID'] = state.lastEvent;
  const response = await fetch('/_local/v1/events', { headers, cache: 'no-store' });
  if (response.status === 429) {
    connectionIs(true, 'too many open pages');
    await new Promise((resolve) => { setTimeout(resolve, 5000); });
    return;
  }
  if (!response.ok) throw Object.assign(new Error('no events'), { status: response.status });
  const parse = eventParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  connectionIs(true, 'connected');
  for (let part = await reader.read(); !part.done; part = await reader.read()) parse(part.value);
}

function connectionIs(isOpen, text) {
  byId('connection-dot').className = `dot ${isOpen ? 'active' : 'inactive'}`;
  byId('connection-text').textContent = text;
  const dialog = byId('disconnected');
  if (isOpen) dialog.close();
  else if (!dialog.open) dialog.showModal();
}

/** Reads events. A stream ends after a minute, and the next one goes on. */
async function followEvents() {
  for (;;) {
    try {
      await readEvents();
    } catch (error) {
      if (error.status === 401) return lock();
      connectionIs(false, 'disconnected');
      await reconnected();
    }
  }
}

/** Waits until the server answers again. Its lists may be others then. */
async function reconnected() {
  for (let isAlive = false; !isAlive;) {
    await new Promise((resolve) => { setTimeout(resolve, 500); });
    isAlive = await fetch('/_local/alive', { cache: 'no-store' }).then(({ ok }) => ok, () => false);
  }
  Object.assign(state, { lastEvent: null, keySet: null, isStale: true });
}

// == The start ==

function lock() {
  state.connection = null;
  connectionIs(true, 'locked');
  byId('last-call').hidden = true;
  show('locked');
}

/** Takes the token from the address, so that neither the history nor a copied address has it. */
function takeKey() {
  const key = new URLSearchParams(location.hash.slice(1)).get('k');
  if (!key) return;
  sessionStorage.setItem('control-token', key);
  history.replaceState(null, '', location.pathname);
}

async function start() {
  try {
    state.connection = await control('GET', 'connection');
  } catch (error) {
    if (error.status !== 401) throw error;
    return lock();
  }
  byId('resource-id').textContent = state.connection.resourceId;
  byId('published-badge').hidden = !state.connection.isPublished;
  showClock(await control('GET', 'clock'));
  const { requests, next, dropped } = await control('GET', 'requests');
  state.lastEvent = String(next);
  for (const line of requests) {
    if (line.trigger === undefined) keepLine(line);
  }
  if (dropped > 0) say(`${dropped} earlier requests are no longer kept.`);
  openScreen();
  return followEvents();
}

function onSubmit(id, action) {
  byId(id).addEventListener('submit', (event) => {
    event.preventDefault();
    attempt(action);
  });
}

const onClick = (id, action) => byId(id).addEventListener('click', () => attempt(action));

/** Each button with this data attribute runs the action with its value. */
function onData(name, action) {
  for (const item of document.querySelectorAll(`[data-${name}]`)) {
    item.addEventListener('click', () => attempt(() => action(item.dataset[name])));
  }
}

function wire() {
  byId('generate-scopes').append(...SCOPES.map((scope) => make('label', { className: 'inline' },
    make('input', { type: 'checkbox', id: `scope-${scope}`, checked: scope === 'chat' || scope === 'voip' }), scope)));
  byId('snippet-language').append(...Object.keys(SNIPPETS).map((name) => make('option', {}, name)));
  byId('sign-in-api').append(...Object.keys(APIS).map((name) => make('option', {}, name)));
  showPrincipals();
  byId('snippet-language').addEventListener('change', showConnect);
  byId('assign').elements.list.addEventListener('change', showPrincipals);
  byId('identity-search').addEventListener('input', () => soon(searchIdentity, 200));
  byId('token-text').addEventListener('input', readInspected);
  for (const id of ['request-text', 'request-operation', 'request-outcome']) byId(id).addEventListener('input', drawRequests);
  onData('copy', (id) => copy(byId(id).textContent));
  onData('regenerate', regenerate);
  onData('offset', (offset) => setClock('PUT', { offset }));
  onSubmit('generate', generate);
  onSubmit('add-person', addPerson);
  onSubmit('sign-in', signIn);
  onSubmit('assign', assign);
  onSubmit('unlock', () => {
    sessionStorage.setItem('control-token', byId('unlock').elements.token.value.trim());
    location.reload();
  });
  onClick('exchange', exchange);
  onClick('identity-more', loadMoreIdentities);
  onClick('delete-all', () => reset('delete'));
  onClick('rotate', rotate);
  onClick('reset', () => reset());
  onClick('snapshot-save', saveSnapshot);
  byId('snapshot-load').addEventListener('change', () => attempt(loadSnapshot));
  onClick('clock-freeze', () => setClock('PUT', { at: new Date(now()).toISOString(), frozen: true }));
  onClick('clock-real', () => setClock('DELETE'));
  onClick('request-clear', () => {
    state.lines = [];
    state.dropped = 0;
    drawRequests();
  });
  onClick('request-pause', () => {
    state.isPaused = !state.isPaused;
    byId('request-pause').ariaPressed = String(state.isPaused);
    byId('request-pause').textContent = state.isPaused ? 'Go on' : 'Pause';
    drawRequests();
  });
  window.addEventListener('hashchange', openScreen);
  // The screen that is open asks again each second, so that an expiry shows too.
  setInterval(() => {
    if (document.hidden || !state.connection) return;
    askVerdicts().catch(() => {});
    if (currentScreen() === 'test') showClock(state.clock);
  }, 1000);
}

takeKey();
wire();
attempt(start);
