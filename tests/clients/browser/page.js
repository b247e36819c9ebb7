// The code of the page. The test calls these functions in the browser.
import { AzureCommunicationTokenCredential } from "@azure/communication-common";
import { CommunicationIdentityClient } from "@azure/communication-identity";
import { PublicClientApplication } from "@azure/msal-browser";
import { broadcastResponseToMainFrame } from "@azure/msal-browser/redirect-bridge";

// Returns the Entra token of the test user, which the page requests from the stand-in by itself.
async function userToken(tokenEndpoint, form) {
  const answer = await fetch(tokenEndpoint, { method: "POST", body: new URLSearchParams(form) });
  const { access_token: token, expires_in: lifetime } = await answer.json();
  return { token, expiresOnTimestamp: Date.now() + lifetime * 1000 };
}

globalThis.exchange = async ({ endpoint, tokenEndpoint, form, scopes }) => {
  const tokenCredential = { getToken: () => userToken(tokenEndpoint, form) };
  const credential = new AzureCommunicationTokenCredential({ resourceEndpoint: endpoint, tokenCredential, scopes });
  try {
    return { token: (await credential.getToken()).token };
  } catch (error) {
    return { error: String(error.message) };
  }
};

globalThis.createUserAndToken = async ({ connectionString }) => {
  const client = new CommunicationIdentityClient(connectionString);
  const { user, token } = await client.createUserAndToken(["chat"]);
  await client.deleteUser(user);
  return { token };
};

// Returns the reply as the page may read it, or the error of a reply that it may not read.
globalThis.read = async ({ url, options }) => {
  try {
    const reply = await fetch(url, options);
    const names = ["MS-CV", "x-ms-client-request-id", "x-processing-time"];
    const headers = Object.fromEntries(names.map((name) => [name, reply.headers.get(name)]));
    return { status: reply.status, headers, body: await reply.text() };
  } catch (error) {
    return { error: error.name };
  }
};

async function application(configuration) {
  const application = new PublicClientApplication(configuration);
  await application.initialize();
  return application;
}

const result = ({ accessToken, account }) => ({ token: accessToken, oid: account.idTokenClaims.oid });
const failure = (error) => ({ error: String(error.message) });

// Begins a sign-in. The result is in `signedIn`, after a redirect too.
globalThis.signIn = async ({ configuration, interaction, request }) => {
  sessionStorage.setItem("configuration", JSON.stringify(configuration));
  const msal = await application(configuration);
  const outcome = msal[`acquireToken${interaction}`](request);
  outcome.then((answer) => answer && (globalThis.signedIn = result(answer)), (error) => (globalThis.signedIn = failure(error)));
};

globalThis.renew = async ({ configuration, request }) => {
  const msal = await application(configuration);
  const [account] = msal.getAllAccounts();
  return (await msal.acquireTokenSilent({ ...request, account, forceRefresh: true })).accessToken;
};

globalThis.exchangeTeams = async ({ connectionString, options }) =>
  (await new CommunicationIdentityClient(connectionString).getTokenForTeamsUser(options)).token;

if (location.pathname === "/redirect") {
  broadcastResponseToMainFrame();
} else if (sessionStorage.getItem("configuration")) {
  application(JSON.parse(sessionStorage.getItem("configuration")))
    .then((msal) => msal.handleRedirectPromise())
    .then((answer) => answer && (globalThis.signedIn = result(answer)))
    .catch((error) => (globalThis.signedIn = failure(error)));
}
