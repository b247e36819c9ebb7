// oidc-provider with its adapter in memory, for one client. The argument is the token's form: opaque, ES256 or RS256.
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const [form] = process.argv.slice(2);
const privateJwk = (alg, ...options) => ({
  ...generateKeyPairSync(...options).privateKey.export({ format: 'jwk' }),
  alg,
  use: 'sig',
});
const resource = {
  scope: 'chat voip',
  audience: 'bench',
  accessTokenTTL: 86_400,
  ...(form === 'opaque'
    ? { accessTokenFormat: 'opaque' }
    : { accessTokenFormat: 'jwt', jwt: { sign: { alg: form } } }),
};

const provider = new Provider('http://localhost', {
  clients: [{
    client_id: 'bench',
    client_secret: process.env.CLIENT_SECRET,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
  }],
  jwks: {
    keys: [
      privateJwk('RS256', 'rsa', { modulusLength: 2048 }),
      privateJwk('ES256', 'ec', { namedCurve: 'P-256' }),
    ],
  },
  scopes: ['chat', 'voip'],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:bench',
      getResourceServerInfo: () => resource,
    },
  },
});

const server = provider.listen(0, '127.0.0.1', () => {
  const endpoint = `http://localhost:${server.address().port}/token`;
  console.log(JSON.stringify({
    token: endpoint,
    introspect: `${endpoint}/introspection`,
    revoke: `${endpoint}/revocation`,
  }));
});
