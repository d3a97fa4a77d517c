// An OpenID Connect provider with one client and one person, who is always at the keyboard: it asks for no password.
// Usage: node provider.js CLIENT REDIRECT SUBJECT. It says where it is and with which keys it signs, and ends with its input.
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const [client, redirect, subject] = process.argv.slice(2);
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const jwk = { ...privateKey.export({ format: 'jwk' }), kid: 'login-1', use: 'sig', alg: 'ES256' };

const server = createServer();
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: client,
    redirect_uris: [redirect],
    response_types: ['id_token'],
    grant_types: ['implicit'],
    token_endpoint_auth_method: 'none',
    id_token_signed_response_alg: 'ES256',
  }],
  jwks: { keys: [jwk] },
  cookies: { keys: ['test'] },
  features: { devInteractions: { enabled: false } },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  async loadExistingGrant(ctx) {
    const grant = new provider.Grant({ accountId: ctx.oidc.session.accountId, clientId: ctx.oidc.client.clientId });
    grant.addOIDCScope('openid');
    await grant.save();
    return grant;
  },
});
provider.on('server_error', (_, err) => console.error(err));
provider.on('authorization.error', (_, err) => console.error(err));
const pages = provider.callback();
server.on('request', (req, res) => {
  if (req.url.startsWith('/interaction/')) {
    provider.interactionFinished(req, res, { login: { accountId: subject } }).catch((err) => {
      console.error(err);
      res.destroy();
    });
    return;
  }
  pages(req, res);
});
const { d, ...key } = jwk;
console.log(JSON.stringify({ issuer, authorize: `${issuer}/auth`, keys: { keys: [key] } }));
process.stdin.resume().on('end', () => process.exit(0));
