// An OpenID provider on loopback for the tests: the accounts and clients of the JSON file that it is started with.
// Its sign-in page takes a login and no password; "ago" says how many seconds ago the person proved who it is.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import Provider from "oidc-provider";

const given = JSON.parse(readFileSync(process.argv[2], "utf8"));
const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address();
  const issuer = `http://127.0.0.1:${port}${given.path}`;
  const provider = new Provider(issuer, {
    clients: given.clients,
    claims: { openid: ["sub", "oid", "tid", "groups", "_claim_names"], email: ["email", "email_verified"], profile: ["name", "preferred_username"] },
    conformIdTokenClaims: given.conform,
    cookies: { keys: ["a key of the tests"] },
    features: { devInteractions: { enabled: false }, claimsParameter: { enabled: true } },
    interactions: { url: (_, interaction) => `${given.path}/interaction/${interaction.uid}` },
    findAccount: (_, id) => (given.accounts[id] ? { accountId: id, claims: () => ({ sub: id, ...given.accounts[id] }) } : undefined),
    loadExistingGrant: async (ctx) => {
      const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
      grant.addOIDCScope("openid email profile");
      await grant.save();
      return grant;
    },
    ttl: { Interaction: 600, Session: 3600, Grant: 3600, AccessToken: 600, IdToken: 600, AuthorizationCode: 60 },
  });
  const callback = provider.callback();
  server.on("request", async (request, response) => {
    if (!request.url.startsWith(given.path)) return response.writeHead(404).end();
    if (request.url.startsWith(`${given.path}/interaction/`)) return interaction(provider, request, response);
    request.originalUrl = request.url;
    request.url = request.url.slice(given.path.length) || "/";
    return callback(request, response);
  });
  process.stdout.write(`${issuer}\n`);
});

async function interaction(provider, request, response) {
  if (request.method === "GET") {
    response.writeHead(200, { "content-type": "text/html; charset=utf-8" });
    return response.end(`<!doctype html><html lang="en"><title>Sign in</title><main><h1>Sign in</h1><form method="post" action="${request.url}">
      <label>Login <input name="login"></label><label>Seconds ago <input name="ago"></label>
      <button name="go" value="yes">Sign in</button><button name="go" value="no">Cancel</button></form></main></html>`);
  }
  let body = "";
  for await (const part of request) body += part;
  const form = new URLSearchParams(body);
  const result =
    form.get("go") === "no"
      ? { error: "access_denied", error_description: "<b>a description that nobody shows</b>" }
      : { login: { accountId: form.get("login"), ts: Math.floor(Date.now() / 1000) - Number(form.get("ago") || 0) } };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}
